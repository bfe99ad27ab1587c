<?php
// A call through Redial from PHP. Requires the redis extension: pecl install redis
//   REDIS_URL=redis://127.0.0.1:6379 php producer.php https://example.com/
$at = parse_url(getenv("REDIS_URL") ?: "redis://127.0.0.1:6379");
$redis = new Redis();
$redis->connect($at["host"], $at["port"] ?? 6379);
$redis->setOption(Redis::OPT_READ_TIMEOUT, 65); // Longer than BRPOP blocks.
// The random name keeps others from taking the answer; the braces put the list into the queue's Cluster slot.
$answers = "answers:{default}:" . bin2hex(random_bytes(16));
$task = ["url" => $argv[1], "reply_to" => $answers, "body" => ["from" => "php"]];

$redis->lPush("redial:{default}", json_encode($task, JSON_UNESCAPED_SLASHES | JSON_THROW_ON_ERROR));
$answer = $redis->brPop($answers, 60); // Blocks until the answer is there.
if (!$answer) {
    fwrite(STDERR, "no answer within 60 s: is a worker running?\n");
    exit(1);
}
// Printed as it came, because PHP's arrays cannot tell {} from [].
echo $answer[1], "\n";
