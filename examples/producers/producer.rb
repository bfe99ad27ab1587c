# A call through Redial from Ruby: gem install redis.
#   REDIS_URL=redis://127.0.0.1:6379 ruby producer.rb https://example.com/
require "json"
require "redis"
require "securerandom"

redis = Redis.new(url: ENV.fetch("REDIS_URL", "redis://127.0.0.1:6379"))
# In the queue's slot, so that it works in a Cluster too; a name of its own, so that no one else takes the answer.
answers = "answers:{default}:#{SecureRandom.uuid}"
task = { url: ARGV.fetch(0), reply_to: answers, body: { from: "ruby" } }

redis.lpush("redial:{default}", JSON.generate(task))
_, answer = redis.brpop(answers, timeout: 60) # Nothing is polled.
abort "no answer in 60 s: does a worker run?" if answer.nil?
puts JSON.generate(JSON.parse(answer))
