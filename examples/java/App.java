// A service whose slow calls Redial makes: REDIAL_URL=http://127.0.0.1:8080 UPSTREAM=https://example.com/v1/extract PORT=8000 java App.java
// It needs nothing but a JDK from 17 on: the task is text, and the gateway sends the upstream's answer as it is.
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.util.concurrent.Executors;
import java.util.regex.Pattern;

public class App {
    static final String GATEWAY = System.getenv("REDIAL_URL"); // of `redial serve`
    static final String UPSTREAM = System.getenv("UPSTREAM"); // Clients of this service choose what is sent, not where it goes.
    /** Where a good result has the answer: the JDK has no parser for JSON. */
    static final Pattern BODY = Pattern.compile("\"status\":\"ok\",.*?\"body\":(.*),\"reason\":null", Pattern.DOTALL);
    static final HttpClient CLIENT = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();

    public static void main(String[] args) throws IOException {
        var port = Integer.parseInt(System.getenv("PORT"));
        var server = HttpServer.create(new InetSocketAddress("127.0.0.1", port), 2000);
        server.setExecutor(Executors.newFixedThreadPool(16)); // They read requests; nothing waits in them.
        server.createContext("/calls", exchange -> enqueue(exchange, ""));
        server.createContext("/ask", exchange -> enqueue(exchange, "?wait=30"));
        server.createContext("/calls/", exchange -> {
            var id = exchange.getRequestURI().getRawPath().substring("/calls/".length());
            send(exchange, HttpRequest.newBuilder(URI.create(GATEWAY + "/v1/tasks/" + id)).build(), 404);
        });
        server.start();
    }

    static void enqueue(HttpExchange exchange, String wait) throws IOException {
        var body = new String(exchange.getRequestBody().readAllBytes());
        var task = "{\"url\":\"" + UPSTREAM + "\",\"body\":" + body + "}"; // The gateway refuses what is not JSON then.
        var request = HttpRequest.newBuilder(URI.create(GATEWAY + "/v1/tasks" + wait));
        send(exchange, request.POST(BodyPublishers.ofString(task)).build(), 202);
    }

    /** Sends the upstream's answer once it is there, or why there is none; `notYet` is the status while the call goes on. */
    static void send(HttpExchange exchange, HttpRequest request, int notYet) {
        CLIENT.sendAsync(request, BodyHandlers.ofString()).whenComplete((response, error) -> {
            if (error != null) reply(exchange, 503, "{\"detail\":\"the gateway does not answer\"}");
            else answer(exchange, response, notYet);
        });
    }

    static void answer(HttpExchange exchange, HttpResponse<String> response, int notYet) {
        var body = BODY.matcher(response.body());
        if (response.statusCode() == 202 || response.statusCode() == 404) reply(exchange, notYet, response.body());
        else if (response.statusCode() != 200) reply(exchange, response.statusCode(), response.body());
        else if (body.find()) reply(exchange, 200, body.group(1));
        else reply(exchange, 502, response.body());
    }

    static void reply(HttpExchange exchange, int status, String body) {
        try (exchange) {
            exchange.getResponseHeaders().set("content-type", "application/json");
            exchange.sendResponseHeaders(status, body.getBytes().length);
            exchange.getResponseBody().write(body.getBytes());
        } catch (IOException gone) {
            // The caller has left; its call goes on.
        }
    }
}
