# Debian's Sidekiq: jobs pushed in bulk, a process per core, and the concurrency as threads. Sidekiq stores no answers. The HTTP client
# is Ruby's own, a connection for each thread, kept alive.
require "json"
require "logger"
require "net/http"
require "redis"
require "sidekiq"

Sidekiq.configure_client { |config| config.redis = {url: ENV["REDIS_URL"]} }
Sidekiq.configure_server do |config|
  config.redis = {url: ENV["REDIS_URL"]}
  config.logger.level = Logger::WARN # Otherwise two lines for each job.
end
Redis.silence_deprecations = true

class CallWorker
  include Sidekiq::Worker

  def perform(payload)
    uri = URI(payload["url"])
    http = Thread.current[:http] ||= Net::HTTP.new(uri.host, uri.port, nil).tap do |opened|
      opened.keep_alive_timeout = 30
      opened.start
    end
    answer = http.post(uri.path, JSON.generate(payload["body"]), "content-type" => "application/json")
    raise "status #{answer.code}" unless answer.code == "200"
  end
end

if ARGV[0] == "enqueue"
  payload = JSON.parse(ENV["PAYLOAD"])
  left = ARGV[1].to_i
  while left > 0
    some = [left, 1000].min
    Sidekiq::Client.push_bulk("class" => CallWorker, "args" => Array.new(some) { [payload] })
    left -= some
  end
end
