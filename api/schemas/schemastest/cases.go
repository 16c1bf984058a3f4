package schemastest

import "strings"

const hash = `"sha256":"0123456789abcdef0123456789abcdef0123456789abcdef0123456789ABCDEF"`

// keys makes a keys document of the fields of one key.
func keys(fields string) string { return `{"keys":[{` + fields + `}]}` }

func write(fields string) string { return keys(`"id":"web","kind":"write",` + hash + fields) }

const token = `"id":"app","kind":"token","issuer":"https://id.example","audience":["sluice"],"jwks":"https://id.example/jwks.json"`

// Case is a document, and whether it is valid.
type Case struct {
	// Name is the document's, such as "keys", and What says what there is to it.
	Name, Document string
	Valid          bool
	What           string
}

// Cases are documents of which schemas and programs say the same.
var Cases = []Case{
	{"keys", `{"keys":[]}`, true, "no keys"},
	{"keys", write(``), true, "the least"},
	{"keys", write(`,"origins":["https://shop.example","https://*.shop.example","*"],"events":["order_*","*"],"rate":{"per_second":200,"burst":400},"disabled":false,"expires_at":null`), true, "the example of the design"},
	{"keys", write(`,"previous":[{"sha256":"` + strings.Repeat("0", 64) + `","expires_at":"2027-01-31T00:00:00Z"}]`), true, "rotation"},
	{"keys", write(`,"ips":["10.0.0.0/8","2001:db8::/32","192.0.2.7"],"modes":{"ips":"observe"}`), true, "addresses, observed"},
	{"keys", write(`,"signature":{"secret":["env:NAME","file:/run/secret"],"tolerance":"5m"}`), true, "signatures"},
	{"keys", write(`,"user_rate":{"per_second":5},"event_rate":{"per_second":0.5,"burst":9},"address_rate":{"per_second":1},"ip":true`), true, "rates"},
	{"keys", keys(token + `,"user_claim":"sub"`), true, "tokens"},
	{"keys", `{}`, false, "nothing"},
	{"keys", `{"keys":[],"key":1}`, false, "a member that is not known"},
	{"keys", keys(`"id":"web","kind":"write"`), false, "no hash"},
	{"keys", keys(`"kind":"write",` + hash), false, "no id"},
	{"keys", keys(`"id":"web","kind":"public",` + hash), false, "a kind that is none"},
	{"keys", keys(`"id":"web","kind":"write","sha256":"wk_0123456789"`), false, "the key itself"},
	{"keys", keys(`"id":"a b","kind":"write",` + hash), false, "an id with a space"},
	{"keys", write(`,"origins":[]`), false, "no origins at all"},
	{"keys", write(`,"origins":["shop.example"]`), false, "an origin without a scheme"},
	{"keys", write(`,"origins":["https://shop.example/"]`), false, "an origin with a path"},
	{"keys", write(`,"events":["a*b"]`), false, "an asterisk inside of a name"},
	{"keys", write(`,"rate":{"per_second":0}`), false, "a rate of nothing"},
	{"keys", write(`,"rate":{"persecond":1}`), false, "a rate that is misspelled"},
	{"keys", write(`,"rotes":{}`), false, "a field that is not known"},
	{"keys", write(`,"expires_at":"tomorrow"`), false, "a time that is none"},
	{"keys", write(`,"previous":[{` + hash + `}]`), false, "an older value for ever"},
	{"keys", write(`,"ips":["10.0.0.0/8 "]`), false, "a range with a space"},
	{"keys", write(`,"signature":{}`), false, "a signature without a secret"},
	{"keys", write(`,"signature":{"secret":"hunter2"}`), false, "a secret of another form"},
	{"keys", write(`,"modes":{"origins":"maybe"}`), false, "a mode that is none"},
	{"keys", write(`,"modes":{"colour":"off"}`), false, "a restriction that is none"},
	{"keys", write(`,"issuer":"https://id.example"`), false, "a write key with an issuer"},
	{"keys", keys(token + `,` + hash), false, "a token key with a hash"},
	{"keys", keys(`"id":"app","kind":"token","issuer":"https://id.example"`), false, "a token key without its keys"},

	{"rules", `[]`, true, "no rules"},
	{"rules", `[{"destination_name":"warehouse","enabled_events":["*"]}]`, true, "the first rule"},
	{"rules", `[{"destination_name":"warehouse"}]`, false, "no events"},
	{"rules", `[{"destination_name":"warehouse","enabled_events":["*"],"sample":2}]`, false, "more than all"},

	{"destinations", `[]`, true, "no destinations"},
	{"destinations", `[{"destination_name":"warehouse","connector":"sqlite"}]`, true, "the first destination"},
	{"destinations", `[{"destination_name":"crm","connector":"webhook","settings":{"url":"https://crm.example"},"retry":{"max_attempts":8,"base_delay":"1s","max_delay":"10m"},"concurrency":8,"rate":{"per_second":50},"start":"now","ambiguous":"dead"}]`, true, "the example of the design"},
	{"destinations", `{}`, false, "an object"},
	{"destinations", `[{"destination_name":"crm"}]`, false, "no connector"},
	{"destinations", `[{"destination_name":"crm","connector":"fax"}]`, false, "a connector that is none"},
	{"destinations", `[{"destination_name":"-crm","connector":"slack"}]`, false, "a name that begins with a hyphen"},
	{"destinations", `[{"destination_name":"crm","connector":"slack","retries":3}]`, false, "a field that is not known"},
	{"destinations", `[{"destination_name":"crm","connector":"slack","retry":{"base_delay":"1 second"}}]`, false, "a delay in words"},
	{"destinations", `[{"destination_name":"crm","connector":"slack","concurrency":1025}]`, false, "too many at once"},
	{"destinations", `[{"destination_name":"crm","connector":"slack","start":"yesterday"}]`, false, "a start that is none"},
	{"destinations", `[{"destination_name":"crm","connector":"slack","settings":[]}]`, false, "settings that are no object"},

	{"schemas", `{"schemas":[]}`, true, "no schemas"},
	{"schemas", `{"$schema":"x","schemas":[{"name":"order_completed","version":2,"mode":"observe","schema":{"type":"object","required":["total"],"properties":{"total":{"type":"number"}}}}]}`, true, "a schema"},
	{"schemas", `{"schemas":[{"name":"a","mode":"reject","schema":true,"description":"all"}]}`, true, "a schema that allows everything"},
	{"schemas", `{}`, false, "nothing"},
	{"schemas", `{"schemas":[{"name":"a","mode":"warn","schema":{}}]}`, false, "a mode that is none"},
	{"schemas", `{"schemas":[{"name":"a","mode":"reject"}]}`, false, "no schema"},
	{"schemas", `{"schemas":[{"name":"a","mode":"reject","schema":{"type":"text"}}]}`, false, "a type that is none"},
	{"schemas", `{"schemas":[{"name":"a","mode":"reject","schema":{"required":"total"}}]}`, false, "a schema of another form"},
	{"schemas", `{"schemas":[{"name":"a","mode":"reject","version":"","schema":{}}]}`, false, "a version of nothing"},
	{"schemas", `{"schemas":[{"name":"a","mode":"reject","schema":{},"modes":1}]}`, false, "a field that is not known"},
}
