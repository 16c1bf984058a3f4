import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.Base64;
import java.util.List;

import software.amazon.kinesis.retrieval.AggregatorUtil;
import software.amazon.kinesis.retrieval.KinesisClientRecord;

/**
 * Takes records apart as the Kinesis Client Library does for a shard: one a
 * line on the input, as partition key, sequence number, data in base64, and
 * the first and last hash key of the shard, with tabs between. What it makes
 * of each is printed, one user record a line, and an empty line after them.
 */
public class Deaggregate {
  public static void main(String[] args) throws Exception {
    var in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    var out = new PrintStream(System.out, false, StandardCharsets.UTF_8);
    var library = new AggregatorUtil();
    for (String line; (line = in.readLine()) != null; ) {
      String[] field = line.split("\t", -1);
      var record = KinesisClientRecord.builder().partitionKey(field[0]).sequenceNumber(field[1])
          .data(ByteBuffer.wrap(Base64.getDecoder().decode(field[2]))).build();
      for (var user : library.deaggregate(List.of(record), field[3], field[4])) {
        byte[] data = new byte[user.data().remaining()];
        user.data().get(data);
        out.print(user.partitionKey() + "\t" + (user.explicitHashKey() == null ? "" : user.explicitHashKey()) + "\t"
            + user.sequenceNumber() + "\t" + user.subSequenceNumber() + "\t"
            + Base64.getEncoder().encodeToString(data) + "\n");
      }
      out.print("\n");
    }
    out.flush();
  }
}
