"""What Schemathesis has to be told of: NDJSON is sent as the text that it is."""

import schemathesis

schemathesis.serializer.alias("application/x-ndjson", "text/plain")
