// A call through Redial from Java: needs Jedis (redis.clients:jedis) and what it depends on in the class path.
//   REDIS_URL=redis://127.0.0.1:6379 java -cp 'lib/*' Producer.java https://example.com/
import java.util.List;
import java.util.UUID;
import redis.clients.jedis.JedisPooled;

public class Producer {
    public static void main(String[] args) {
        String address = System.getenv().getOrDefault("REDIS_URL", "redis://127.0.0.1:6379");
        try (JedisPooled redis = new JedisPooled(address)) {
            // In the queue's slot, so that it works in a Cluster too; a name of its own, so that no one else takes the answer.
            String answers = "answers:{default}:" + UUID.randomUUID();
            // A JSON library does better where a text may hold quotes.
            String task = "{\"url\":\"%s\",\"reply_to\":\"%s\",\"body\":{\"from\":\"java\"}}".formatted(args[0], answers);

            redis.lpush("redial:{default}", task);
            List<String> answer = redis.brpop(60, answers); // Nothing is polled.
            if (answer == null) {
                System.err.println("no answer in 60 s: does a worker run?");
                System.exit(1);
            }
            System.out.println(answer.get(1));
        }
    }
}
