import com.fasterxml.jackson.databind.JsonNode;
import dev.dirty.client.Call;
import dev.dirty.client.DirtyAppException;
import dev.dirty.client.DirtyClient;
import dev.dirty.client.DirtyStream;
import java.time.Duration;
import java.util.Arrays;
import java.util.concurrent.CompletableFuture;

/** What README.md shows. */
public class Hello {
  public static void main(String[] args) {
    try (DirtyClient client = DirtyClient.builder().build()) { // $DIRTY_SOCKET, or dirtyd's default
      System.out.println(client.execute("hello:Hello", "greet", "you").as(String.class));

      Call call = Call.of("hello:Hello", "greet", "you").kwarg("mark", "?");
      CompletableFuture<String> text =
          client
              .executeAsync(call.timeout(Duration.ofSeconds(10)))
              .thenApply(result -> result.as(String.class));
      System.out.println(text.join());

      try (DirtyStream chunks = client.stream("hello:Hello", "count", 2)) {
        for (JsonNode chunk : chunks) {
          System.out.println(chunk);
        }
      }

      byte[] photo = {1, 2, 3};
      byte[] mirrored = client.execute("hello:Hello", "mirror", photo).as(byte[].class);
      System.out.println(Arrays.toString(mirrored));

      client.execute("hello:Hello", "sing");
    } catch (DirtyAppException error) {
      System.out.println(error.exceptionType() + ": " + error.getMessage());
    }
  }
}
