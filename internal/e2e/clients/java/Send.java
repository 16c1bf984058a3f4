import java.util.List;
import java.util.Map;
import org.openapitools.client.ApiClient;
import org.openapitools.client.ApiException;
import org.openapitools.client.api.EventsApi;
import org.openapitools.client.model.Accepted;
import org.openapitools.client.model.Event;
import org.openapitools.client.model.EventBatch;
import org.openapitools.client.model.EventError;
import org.openapitools.client.model.Problem;

/** Sends with the client that OpenAPI Generator makes for Java, and says what it reads of the answers. */
public class Send {
  static ApiClient client(String key) {
    ApiClient client = new ApiClient();
    client.updateBaseUri(System.getenv("SLUICE_URL"));
    client.setRequestInterceptor(request -> request.header("Authorization", "Bearer " + key));
    return client;
  }

  public static void main(String[] args) throws Exception {
    ApiClient client = client(System.getenv("SLUICE_KEY"));
    EventsApi api = new EventsApi(client);
    Event good = new Event().id("java-1").name("order_placed").userId("u1").data(Map.of("total", 12.5));
    Event bad = new Event().name("é".repeat(400));

    Accepted all = api.sendEvents(new EventBatch().events(List.of(good)), null);
    System.out.printf("all %d %d %s %s%n", all.getAccepted(), all.getRejected(), all.getIds().get(0), all.getAck());

    Accepted some = api.sendEvents(new EventBatch().events(List.of(new Event().id("java-2").name("order_shipped"), bad)), null);
    EventError error = some.getErrors().get(0);
    System.out.printf("some %d %d %s %s %d %s %s%n", some.getAccepted(), some.getRejected(),
        some.getIds().get(0), some.getIds().get(1), error.getIndex(), error.getPointer(), error.getCode());

    try {
      new EventsApi(client("wk_wrong")).sendEvents(new EventBatch().events(List.of(good)), null);
    } catch (ApiException e) {
      Problem problem = client.getObjectMapper().readValue(e.getResponseBody(), Problem.class);
      System.out.printf("none %d %d %s %s%n", e.getCode(), problem.getStatus(), problem.getCode(), problem.getTitle());
    }
  }
}
