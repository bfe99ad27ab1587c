// A call through Redial from Java. Requires Jedis (redis.clients:jedis) and its dependencies on the class path.
//   REDIS_URL=redis://127.0.0.1:6379 java -cp 'lib/*' Producer.java https://example.com/
import java.util.List;
import java.util.UUID;
import redis.clients.jedis.JedisPooled;

public class Producer {
    public static void main(String[] args) {
        String address = System.getenv().getOrDefault("REDIS_URL", "redis://127.0.0.1:6379");
        try (JedisPooled redis = new JedisPooled(address)) {
            // The random name keeps others from taking the answer; the braces put the list into the queue's Cluster slot.
            String answers = "answers:{default}:" + UUID.randomUUID();
            // Use a JSON library if the values may contain quotes.
            String task = "{\"url\":\"%s\",\"reply_to\":\"%s\",\"body\":{\"from\":\"java\"}}".formatted(args[0], answers);

            redis.lpush("redial:{default}", task);
            List<String> answer = redis.brpop(60, answers); // Blocks until the answer is there, up to 60 s.
            if (answer == null) {
                System.err.println("no answer within 60 s: is a worker running?");
                System.exit(1);
            }
            System.out.println(answer.get(1));
        }
    }
}
