<?php
// A service whose calls Redial makes: REDIAL_URL=http://127.0.0.1:8080 UPSTREAM=https://example.com/v1/x php -S 127.0.0.1:8000 app.php
// Each caller who waits takes a process (PHP_CLI_SERVER_WORKERS; pm.max_children under php-fpm). POST /calls takes one for a moment only.

$path = parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH);

match (true) {
    $path === '/calls' => enqueue('', 202),
    $path === '/ask' => enqueue('?wait=30', 202),
    str_starts_with($path, '/calls/') => answer(gateway('/v1/tasks/' . substr($path, 7)), 404),
    default => reply(404, ['detail' => 'there is /calls, /calls/{id} and /ask']),
};

function enqueue(string $wait, int $notYet): void
{
    $body = json_decode(file_get_contents('php://input'));
    if (json_last_error() !== JSON_ERROR_NONE) {
        reply(400, ['detail' => 'send JSON']);
        return;
    }
    answer(gateway("/v1/tasks$wait", json_encode(['url' => getenv('UPSTREAM'), 'body' => $body])), $notYet);
}

/** Status and parsed body of the gateway's response. */
function gateway(string $path, ?string $task = null): array
{
    $post = ['method' => 'POST', 'content' => $task, 'header' => 'content-type: application/json'];
    $http = ['ignore_errors' => true, 'timeout' => 60] + ($task === null ? [] : $post);
    $text = @file_get_contents(getenv('REDIAL_URL') . $path, false, stream_context_create(['http' => $http]));
    return $text === false ? [503, null] : [(int) explode(' ', $http_response_header[0])[1], json_decode($text)];
}

/** Sends the upstream's answer, or why there is none; `$notYet` is the status while the call goes on. */
function answer(array $response, int $notYet): void
{
    [$status, $result] = $response;
    match (true) {
        $status === 202 || $status === 404 => reply($notYet, ['id' => $result->id ?? null]),
        $status !== 200 => reply($status, ['detail' => $result->detail ?? 'the gateway does not answer']),
        $result->status !== 'ok' => reply(502, ['detail' => "task $result->id: $result->reason: $result->error"]),
        default => reply(200, $result->body),
    };
}

function reply(int $status, mixed $body): void
{
    http_response_code($status);
    header('content-type: application/json');
    echo json_encode($body);
}
