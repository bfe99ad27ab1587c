# A service whose slow calls Redial makes: REDIAL_URL=http://127.0.0.1:8080 UPSTREAM=https://example.com/v1/extract puma -t 64:64 config.ru
# Each caller who waits takes a thread of Puma. POST /calls takes one for a moment only.
require "json"
require "net/http"
require "sinatra/base"

class App < Sinatra::Base
  GATEWAY = URI(ENV.fetch("REDIAL_URL")) # of `redial serve`
  UPSTREAM = ENV.fetch("UPSTREAM") # Clients of this service choose what is sent, not where it goes.

  set :show_exceptions, false
  before { content_type :json }

  post("/calls") { enqueue("") }
  post("/ask") { enqueue("?wait=30") }
  get("/calls/:id") { answer(Net::HTTP::Get.new("/v1/tasks/#{params["id"]}"), 404) }

  error(JSON::ParserError) { [400, { detail: "send JSON" }.to_json] }

  def enqueue(wait)
    task = { url: UPSTREAM, body: JSON.parse(request.body.read) }
    push = Net::HTTP::Post.new("/v1/tasks#{wait}", "content-type" => "application/json")
    push.body = task.to_json
    answer(push, 202)
  end

  # Status and body of the upstream's answer, or of why there is none; `not_yet` is the status while the call goes on.
  def answer(request, not_yet)
    response = Net::HTTP.start(GATEWAY.host, GATEWAY.port, read_timeout: 60) { |http| http.request(request) }
    result = JSON.parse(response.body)
    case response.code.to_i
    when 202, 404 then [not_yet, { id: result["id"] }.to_json]
    when 200
      return [200, result["body"].to_json] if result["status"] == "ok"

      [502, { detail: "task #{result["id"]}: #{result["reason"]}: #{result["error"]}" }.to_json]
    else [response.code.to_i, { detail: result["detail"] }.to_json]
    end
  end
end
