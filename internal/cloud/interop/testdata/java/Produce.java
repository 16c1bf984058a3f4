import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Base64;

import com.google.common.util.concurrent.ListenableFuture;
import software.amazon.awssdk.auth.credentials.AwsBasicCredentials;
import software.amazon.awssdk.auth.credentials.StaticCredentialsProvider;
import software.amazon.kinesis.producer.KinesisProducer;
import software.amazon.kinesis.producer.KinesisProducerConfiguration;
import software.amazon.kinesis.producer.UserRecordResult;

/**
 * Writes user records with the Kinesis Producer Library: one a line on the
 * input, as partition key, explicit hash key (may be empty) and data in base64,
 * with tabs between. For each it prints the shard and the sequence number.
 *
 * Arguments: the port of the endpoint on 127.0.0.1, the stream, and a folder
 * for the library's own program.
 */
public class Produce {
  public static void main(String[] args) throws Exception {
    long port = Long.parseLong(args[0]);
    String stream = args[1];
    var producer = new KinesisProducer(new KinesisProducerConfiguration()
        .setRegion("eu-west-1")
        .setKinesisEndpoint("127.0.0.1").setKinesisPort(port)
        .setStsEndpoint("127.0.0.1").setStsPort(port)
        .setVerifyCertificate(false)
        .setMetricsLevel("none")
        .setTempDirectory(args[2])
        .setCredentialsProvider(StaticCredentialsProvider.create(AwsBasicCredentials.create("test", "test")))
        // A machine may be slow and busy: records wait for the flush, and none
        // is given up or sent twice.
        .setRecordMaxBufferedTime(30_000).setRecordTtl(90_000)
        .setConnectTimeout(60_000).setRequestTimeout(60_000));

    try {
      warmUp(producer, stream);
      var results = new ArrayList<ListenableFuture<UserRecordResult>>();
      var in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
      for (String line; (line = in.readLine()) != null; ) {
        String[] field = line.split("\t", -1);
        results.add(producer.addUserRecord(stream, field[0], field[1].isEmpty() ? null : field[1],
            ByteBuffer.wrap(Base64.getDecoder().decode(field[2]))));
      }
      producer.flushSync();
      for (var result : results) {
        System.out.println(result.get().getShardId() + "\t" + result.get().getSequenceNumber());
      }
    } finally {
      producer.destroy();
    }
  }

  /**
   * Until the library knows the shards, which it asks for in the background, it
   * does not aggregate: two records have two sequence numbers. This waits until
   * they have one.
   */
  private static void warmUp(KinesisProducer producer, String stream) throws Exception {
    String first, second;
    do {
      var one = producer.addUserRecord(stream, "warm-up", null, bytes("warm-up"));
      var two = producer.addUserRecord(stream, "warm-up", null, bytes("warm-up"));
      producer.flushSync();
      first = one.get().getSequenceNumber();
      second = two.get().getSequenceNumber();
    } while (!first.equals(second));
  }

  private static ByteBuffer bytes(String text) {
    return ByteBuffer.wrap(text.getBytes(StandardCharsets.UTF_8));
  }
}
