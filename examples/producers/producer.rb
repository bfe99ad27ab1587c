# A call through Redial from Ruby. Requires: gem install redis
#   REDIS_URL=redis://127.0.0.1:6379 ruby producer.rb https://example.com/
require "json"
require "redis"
require "securerandom"

redis = Redis.new(url: ENV.fetch("REDIS_URL", "redis://127.0.0.1:6379"))
# The random name keeps others from taking the answer; the braces put the list into the queue's Cluster slot.
answers = "answers:{default}:#{SecureRandom.uuid}"
task = { url: ARGV.fetch(0), reply_to: answers, body: { from: "ruby" } }

redis.lpush("redial:{default}", JSON.generate(task))
_, answer = redis.brpop(answers, timeout: 60) # Blocks until the answer is there.
abort "no answer within 60 s: is a worker running?" if answer.nil?
puts JSON.generate(JSON.parse(answer))
