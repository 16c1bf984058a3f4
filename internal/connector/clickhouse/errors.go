package clickhouse

import (
	"bytes"
	"cmp"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/httpcall"
)

// meaning is what an error code says of the rows of an INSERT.
type meaning struct {
	class connector.Class
	// advice is, for class Auth, which setting to look at and why.
	advice string
}

// Advice on settings.
const (
	refusedUser    = "user, password: ClickHouse refuses them"
	missingRight   = "user: lacks the right to do this, or to use one of the settings in query"
	missingTable   = "table: does not exist; create it, or set create_table"
	missingBase    = "table: its database does not exist; create it"
	anotherTable   = "table: cannot take the rows; compare its columns with those that README.md shows"
	unknownSetting = "query: the server does not know or take a setting"
)

// meanings of error codes. What is not in it is tried again. Numbers and names:
// src/Common/ErrorCodes.cpp in github.com/ClickHouse/ClickHouse (read 2026-11).
var meanings = map[int]meaning{
	// A value that cannot be read, or that the table does not want. ClickHouse
	// takes none of the rows then.
	6:   {class: connector.Permanent}, // CANNOT_PARSE_TEXT
	25:  {class: connector.Permanent}, // CANNOT_PARSE_ESCAPE_SEQUENCE
	26:  {class: connector.Permanent}, // CANNOT_PARSE_QUOTED_STRING
	27:  {class: connector.Permanent}, // CANNOT_PARSE_INPUT_ASSERTION_FAILED
	32:  {class: connector.Permanent}, // ATTEMPT_TO_READ_AFTER_EOF
	33:  {class: connector.Permanent}, // CANNOT_READ_ALL_DATA
	38:  {class: connector.Permanent}, // CANNOT_PARSE_DATE
	41:  {class: connector.Permanent}, // CANNOT_PARSE_DATETIME
	53:  {class: connector.Permanent}, // TYPE_MISMATCH
	69:  {class: connector.Permanent}, // ARGUMENT_OUT_OF_BOUND
	70:  {class: connector.Permanent}, // CANNOT_CONVERT_TYPE
	72:  {class: connector.Permanent}, // CANNOT_PARSE_NUMBER
	117: {class: connector.Permanent}, // INCORRECT_DATA
	128: {class: connector.Permanent}, // TOO_LARGE_ARRAY_SIZE
	130: {class: connector.Permanent}, // CANNOT_READ_ARRAY_FROM_TEXT
	131: {class: connector.Permanent}, // TOO_LARGE_STRING_SIZE
	248: {class: connector.Permanent}, // INVALID_PARTITION_VALUE
	321: {class: connector.Permanent}, // VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE
	349: {class: connector.Permanent}, // CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN
	376: {class: connector.Permanent}, // CANNOT_PARSE_UUID
	395: {class: connector.Permanent}, // FUNCTION_THROW_IF_VALUE_IS_NON_ZERO
	407: {class: connector.Permanent}, // DECIMAL_OVERFLOW
	441: {class: connector.Permanent}, // CANNOT_PARSE_DOMAIN_VALUE_FROM_STRING
	467: {class: connector.Permanent}, // CANNOT_PARSE_BOOL
	469: {class: connector.Permanent}, // VIOLATED_CONSTRAINT
	675: {class: connector.Permanent}, // CANNOT_PARSE_IPV4
	676: {class: connector.Permanent}, // CANNOT_PARSE_IPV6

	// A person must act.
	192: {connector.Auth, refusedUser},    // UNKNOWN_USER
	193: {connector.Auth, refusedUser},    // WRONG_PASSWORD
	194: {connector.Auth, refusedUser},    // REQUIRED_PASSWORD
	195: {connector.Auth, refusedUser},    // IP_ADDRESS_NOT_ALLOWED
	516: {connector.Auth, refusedUser},    // AUTHENTICATION_FAILED
	164: {connector.Auth, missingRight},   // READONLY
	291: {connector.Auth, missingRight},   // DATABASE_ACCESS_DENIED
	392: {connector.Auth, missingRight},   // QUERY_IS_PROHIBITED
	497: {connector.Auth, missingRight},   // ACCESS_DENIED
	511: {connector.Auth, missingRight},   // UNKNOWN_ROLE
	60:  {connector.Auth, missingTable},   // UNKNOWN_TABLE
	218: {connector.Auth, missingTable},   // TABLE_IS_DROPPED
	81:  {connector.Auth, missingBase},    // UNKNOWN_DATABASE
	7:   {connector.Auth, anotherTable},   // INCORRECT_NUMBER_OF_COLUMNS
	8:   {connector.Auth, anotherTable},   // THERE_IS_NO_COLUMN
	10:  {connector.Auth, anotherTable},   // NOT_FOUND_COLUMN_IN_BLOCK
	16:  {connector.Auth, anotherTable},   // NO_SUCH_COLUMN_IN_TABLE
	36:  {connector.Auth, anotherTable},   // BAD_ARGUMENTS
	43:  {connector.Auth, anotherTable},   // ILLEGAL_TYPE_OF_ARGUMENT
	44:  {connector.Auth, anotherTable},   // ILLEGAL_COLUMN
	47:  {connector.Auth, anotherTable},   // UNKNOWN_IDENTIFIER
	48:  {connector.Auth, anotherTable},   // NOT_IMPLEMENTED: a view, for instance
	50:  {connector.Auth, anotherTable},   // UNKNOWN_TYPE: CREATE TABLE on an old server
	56:  {connector.Auth, anotherTable},   // UNKNOWN_STORAGE, likewise
	62:  {connector.Auth, anotherTable},   // SYNTAX_ERROR, likewise
	115: {connector.Auth, unknownSetting}, // UNKNOWN_SETTING
	452: {connector.Auth, unknownSetting}, // SETTING_CONSTRAINT_VIOLATION
	471: {connector.Auth, unknownSetting}, // INVALID_SETTING_VALUE
	472: {connector.Auth, unknownSetting}, // READONLY_SETTING

	// The call is too much at once.
	158: {class: connector.TooLarge}, // TOO_MANY_ROWS
	229: {class: connector.TooLarge}, // QUERY_IS_TOO_LARGE
	307: {class: connector.TooLarge}, // TOO_MANY_BYTES
	396: {class: connector.TooLarge}, // TOO_MANY_ROWS_OR_BYTES

	// The server has more to do than it can.
	201:          {class: connector.Throttled}, // QUOTA_EXCEEDED
	202:          {class: connector.Throttled}, // TOO_MANY_SIMULTANEOUS_QUERIES
	241:          {class: connector.Throttled}, // MEMORY_LIMIT_EXCEEDED
	tooManyParts: {class: connector.Throttled},
	364:          {class: connector.Throttled}, // RECEIVED_ERROR_TOO_MANY_REQUESTS
	439:          {class: connector.Throttled}, // CANNOT_SCHEDULE_TASK
	745:          {class: connector.Throttled}, // SERVER_OVERLOADED

	// The rows may be stored: the server gave up waiting for itself, for another
	// one, or for Keeper.
	159: {class: connector.Ambiguous}, // TIMEOUT_EXCEEDED
	209: {class: connector.Ambiguous}, // SOCKET_TIMEOUT
	210: {class: connector.Ambiguous}, // NETWORK_ERROR
	236: {class: connector.Ambiguous}, // ABORTED
	319: {class: connector.Ambiguous}, // UNKNOWN_STATUS_OF_INSERT
	394: {class: connector.Ambiguous}, // QUERY_WAS_CANCELLED
	999: {class: connector.Ambiguous}, // KEEPER_EXCEPTION
}

const (
	noSuchTable  = 60
	tooManyParts = 252
)

// overloadWait is how long a server is left alone that has too much to do.
// ClickHouse names no time; merging parts takes it some seconds.
const overloadWait = 5 * time.Second

// exception finds the number and the text of ClickHouse's error in an answer. The
// number stands in a header; if the error came after the headers were sent, in
// the body alone, and the status is 200.
func exception(x *httpcall.Exchange) (code int, text string) {
	if x.Err != nil {
		return 0, ""
	}
	if at := exceptionText.FindSubmatchIndex(x.Body); at != nil {
		code, _ = strconv.Atoi(string(x.Body[at[2]:at[3]]))
		text = string(bytes.TrimSpace(x.Body[at[0]:]))
	}
	if named, err := strconv.Atoi(x.Header.Get("X-Clickhouse-Exception-Code")); err == nil {
		code = named
	}
	return code, text
}

var exceptionText = regexp.MustCompile(`Code: ([0-9]{1,5})\. DB::`)

// outcome is the result of all rows of a call. One of class Permanent is that of
// some row among them.
func outcome(x *httpcall.Exchange) connector.Result {
	code, text := exception(x)
	switch {
	case code != 0:
		return explained(x, code, text)
	case x.Err != nil:
		return x.Outcome()
	case x.Status/100 == 2 && isClickHouse(x):
		return x.Result(connector.Delivered, "", "")
	case x.Status/100 == 2, x.Class() == connector.Permanent:
		// A page of something else, a 404 of a proxy: nothing here is about a row.
		result := x.Result(connector.Retryable, "not_clickhouse", "url: what answers there is not ClickHouse: "+strconv.Itoa(x.Status)+" "+http.StatusText(x.Status))
		result.Class = connector.Auth
		return result
	}
	return x.Outcome()
}

// isClickHouse reports whether ClickHouse has answered: it says so in some header.
func isClickHouse(x *httpcall.Exchange) bool {
	for name := range x.Header {
		if strings.HasPrefix(name, "X-Clickhouse-") {
			return true
		}
	}
	return false
}

func explained(x *httpcall.Exchange, code int, text string) connector.Result {
	means := meanings[code]
	if code == tooManyParts && strings.Contains(text, "partitions for single INSERT") {
		means.class = connector.TooLarge // fewer rows have fewer partitions
	}
	first, _, _ := strings.Cut(text, "\n") // a list of columns may follow
	message := cmp.Or(first, "ClickHouse answers with error "+strconv.Itoa(code))
	if column := faultyColumn(text); means.class == connector.Permanent && column != "" {
		message = column + ": " + message
	}
	if means.advice != "" {
		message = means.advice + ": " + message
	}
	// The advice of httpcall goes by the status, which says less than the code.
	result := x.Result(connector.Retryable, strconv.Itoa(code), message)
	result.Class = means.class
	if result.Class == connector.Throttled && result.RetryAfter == 0 {
		result.RetryAfter = overloadWait
	}
	return result
}

// faultyRow returns the row that cannot be read or stored, counted from 0, -1 if
// the text does not say.
func faultyRow(text string) int {
	if at := rowText.FindStringSubmatch(text); at != nil {
		if n, err := strconv.Atoi(at[1]); err == nil {
			return n - 1
		}
	}
	return -1
}

var rowText = regexp.MustCompile(`at row ([0-9]{1,9})\b`)

// faultyColumn returns the column that cannot be read, "" if the text does not
// say: ClickHouse lists the columns of the row up to that one.
func faultyColumn(text string) string {
	columns := columnText.FindAllStringSubmatch(text, -1)
	if len(columns) == 0 {
		return ""
	}
	return columns[len(columns)-1][1]
}

var columnText = regexp.MustCompile(`Column [0-9]+, +name: ([^,\n]+),`)
