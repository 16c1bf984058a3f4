import org.openapitools.client.apis.EventsApi
import org.openapitools.client.infrastructure.ApiClient
import org.openapitools.client.infrastructure.ClientError
import org.openapitools.client.infrastructure.ClientException
import org.openapitools.client.infrastructure.Serializer
import org.openapitools.client.models.Event
import org.openapitools.client.models.EventBatch
import org.openapitools.client.models.Problem

/** Sends with the client that OpenAPI Generator makes for Kotlin, and says what it reads of the answers. */
fun main() {
    ApiClient.accessToken = System.getenv("SLUICE_KEY")
    val api = EventsApi(System.getenv("SLUICE_URL"))
    val good = Event(id = "kotlin-1", name = "order_placed", userId = "u1", data = mapOf("total" to 12.5))
    val bad = Event(name = "é".repeat(400))

    val all = api.sendEvents(EventBatch(listOf(good)))
    println("all ${all.accepted} ${all.rejected} ${all.ids[0]} ${all.ack.value}")

    val some = api.sendEvents(EventBatch(listOf(Event(id = "kotlin-2", name = "order_shipped"), bad)))
    val error = some.errors!![0]
    println("some ${some.accepted} ${some.rejected} ${some.ids[0]} ${some.ids[1]} ${error.index} ${error.pointer} ${error.code.value}")

    ApiClient.accessToken = "wk_wrong"
    try {
        api.sendEvents(EventBatch(listOf(good)))
    } catch (e: ClientException) {
        val body = (e.response as ClientError<*>).body as String
        val problem = Serializer.moshi.adapter(Problem::class.java).fromJson(body)!!
        println("none ${e.statusCode} ${problem.status} ${problem.code.value} ${problem.title}")
    }
    System.exit(0) // OkHttp keeps threads for its connections
}
