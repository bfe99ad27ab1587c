<?php
// A call through Redial from PHP: needs the extension redis (pecl install redis).
//   REDIS_URL=redis://127.0.0.1:6379 php producer.php https://example.com/
$at = parse_url(getenv("REDIS_URL") ?: "redis://127.0.0.1:6379");
$redis = new Redis();
$redis->connect($at["host"], $at["port"] ?? 6379);
$redis->setOption(Redis::OPT_READ_TIMEOUT, -1); // BRPOP ends by its own time.
// In the queue's slot, so that it works in a Cluster too; a name of its own, so that no one else takes the answer.
$answers = "answers:{default}:" . bin2hex(random_bytes(16));
$task = ["url" => $argv[1], "reply_to" => $answers, "body" => ["from" => "php"]];

$redis->lPush("redial:{default}", json_encode($task, JSON_UNESCAPED_SLASHES | JSON_THROW_ON_ERROR));
$answer = $redis->brPop($answers, 60); // Nothing is polled.
if (!$answer) {
    fwrite(STDERR, "no answer in 60 s: does a worker run?\n");
    exit(1);
}
// As it came: PHP's own arrays can't tell {} from [].
echo $answer[1], "\n";
