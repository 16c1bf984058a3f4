// Package router decides which destinations want an event, and what they get
// of it. It owns the rules document.
//
// # The rules document
//
// The document is a JSON array of rules:
//
//	[
//	  {
//	    "destination_name": "crm",
//	    "destination_arn": "arn:aws:lambda:eu-west-1:123456789012:function:crm:prod",
//	    "enabled_events": ["signed_up", "order_*"],
//	    "disabled_events": ["order_draft_*"],
//	    "when": "event.source == 'shop' && event.data.total >= 100.0",
//	    "sample": 0.1,
//	    "transform": [
//	      {"drop": ["/ip", "/data/password"]},
//	      {"rename": {"from": "/data/total", "to": "/data/revenue"}},
//	      {"set": {"/data/currency": "EUR"}},
//	      {"hash": ["/user_id", "/data/email"], "salt": "c0ffee"}
//	    ],
//	    "max_batch": 10
//	  }
//	]
//
// Only destination_name and enabled_events are required. The members:
//
//   - destination_name names the destination: 1 to 64 letters, digits, '_', '.'
//     and '-', the first a letter or digit. Several rules may name the same
//     one: the first that matches decides, and the event is delivered once.
//   - destination_arn is the ARN of a Lambda function with an alias or version
//     at its end, or of an SQS queue. It is used on AWS only and may be absent
//     elsewhere (see [Table.RequireARNs]).
//   - enabled_events lists names of events; "*" stands for all of them and
//     "order_*" for those that begin with "order_". An empty list wants
//     nothing.
//   - enabled: false puts the rule out of use. The default is true.
//   - disabled_events lists names and patterns that the rule does not want,
//     whatever enabled_events says.
//   - when is a CEL expression, see below.
//   - sample is the share of users, 0 to 1, whose events the rule wants. The
//     partition key of an event (user_id, else anonymous_id, else id) has a
//     fixed position between 0 and 1, and the rule wants the events at
//     positions below sample. All events of a user are kept or left out
//     together, and a larger sample contains every smaller one, also in other
//     rules.
//   - transform changes what is sent, see below.
//   - max_batch is the most events that one invocation of the Lambda function
//     carries. The default is 1.
//
// # when
//
// The expression sees the variable event with the fields id, type, name,
// user_id, anonymous_id, timestamp, received_at, source and ip, which are
// strings ("" if the event does not have them; has(event.ip) tells), and data
// and context, which are maps. A field that does not exist, such as
// event.nmae, is a fault of the document; a member that an event does not
// have, such as event.data.total, is an error when that event is read: the
// rule does not match, and the counter WhenFailed says so. Ask first where a
// member may be absent: has(event.data.total) && event.data.total > 100.
//
// Numbers are doubles, as CEL defines it for JSON. They compare with ints and
// doubles alike (event.data.total > 100), but arithmetic needs doubles
// (event.data.total * 2.0) or a conversion (int(event.data.n) % 2 == 0).
// Integers that a double cannot hold exactly are ints, so that ids of 64 bits
// compare exactly.
//
// An expression is bounded in length, in nested loops (all, exists, map …: at
// most one inside another), in the size of regular expressions, which must be
// literals, and in cost: one that would take too long over a certain event
// fails for that event.
//
// # transform
//
// A transform is a list of steps; each has one or more of these operations,
// which happen in this order within a step, and the steps one after another
// (a single step may stand without the list):
//
//   - drop: a list of JSON pointers (RFC 6901). What they point to is removed.
//   - rename: {"from": POINTER, "to": POINTER}, or a list of such. The value
//     moves; what stood at the new place is replaced.
//   - set: an object of pointers and their new values. Objects missing on the
//     way are made.
//   - hash: a list of pointers. The value is replaced by the SHA-256 of salt
//     and value, in hexadecimal; salt is a member of the step and empty by
//     default, so that vendors which match on hashed addresses can. Of a
//     string the characters are hashed, of anything else its JSON text; null
//     stays null.
//
// Pointers begin with a field of the event, such as /user_id, or lead into data
// or context. What an event does not have is not dropped, renamed or hashed,
// and that is no error. The id is the idempotency key: it cannot be changed,
// and name and type can be set but not dropped. A step that cannot be done,
// for instance a set below a member that is not an object, makes the event a
// dead letter. If a key occurs twice in an object, the operations mean both,
// except that rename takes the last.
//
// The bytes that no operation touches are sent as they came: spelling of
// numbers, order of members, escapes, spaces.
//
// # Use
//
// [Parse] makes a [Table] of a document. A Table does not change, and is
// swapped whole when the document does. [Table.Route] gives what concerns one
// destination, and [Route.Apply] decides. Both are safe for concurrent use, and
// take no locks. [Check] and [Table.Explain] tell an operator what a document
// does.
//
// The parts of a rule serve other documents too, so that these mean the same:
// [CompileValue] for expressions that give a value, [ParsePointer],
// [NewTransform] and [CheckPattern].
package router
