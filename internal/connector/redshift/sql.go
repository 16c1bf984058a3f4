package redshift

import (
	"fmt"
	"strings"

	"github.com/eventsluice/sluice/internal/connector/warehouse"
)

// column is one of the table, with its type there, and in the table that a load
// is staged in: there times are text, which is cast on the way to the table. So
// COPY has nothing to convert that could fail.
type column struct {
	name, kind, staged string
	// maxBytes bounds a VARCHAR: Redshift counts bytes.
	maxBytes int
}

// The most bytes of the columns. What the gateway accepts is at most half as
// long.
const (
	maxText   = 1024
	maxType   = 64
	maxSource = 256
)

// columns in the order of warehouse.Columns.
var columns = [len(warehouse.Columns)]column{
	{"id", "VARCHAR(1024) NOT NULL", "VARCHAR(1024)", maxText},
	{"type", "VARCHAR(64) NOT NULL", "VARCHAR(64)", maxType},
	{"name", "VARCHAR(1024) NOT NULL", "VARCHAR(1024)", maxText},
	{"user_id", "VARCHAR(1024)", "VARCHAR(1024)", maxText},
	{"anonymous_id", "VARCHAR(1024)", "VARCHAR(1024)", maxText},
	{"timestamp", "TIMESTAMPTZ", "VARCHAR(32)", 0},
	{"received_at", "TIMESTAMPTZ", "VARCHAR(32)", 0},
	{"source", "VARCHAR(256)", "VARCHAR(256)", maxSource},
	{"data", "SUPER", "SUPER", 0},
	{"context", "SUPER", "SUPER", 0},
}

// list joins something of each column.
func list(separator string, of func(c column) string) string {
	parts := make([]string, len(columns))
	for i, c := range columns {
		parts[i] = of(c)
	}
	return strings.Join(parts, separator)
}

func quotedName(c column) string { return quoteName(c.name) }

// create are the statements that make the table, and the one that loads lock.
// Rows of one id are on one slice, where the search for duplicates finds them
// without a network.
func (t table) create() []string {
	return []string{
		"CREATE TABLE IF NOT EXISTS " + t.name + " (\n\t" +
			list(",\n\t", func(c column) string { return quoteName(c.name) + " " + c.kind }) +
			",\n\tPRIMARY KEY (\"id\")\n) DISTKEY (\"id\") SORTKEY (\"received_at\")",
		"CREATE TABLE IF NOT EXISTS " + t.lock + " (\"nothing\" INTEGER)",
	}
}

// check is a statement that reads nothing and needs the table.
func (t table) check() string {
	return "SELECT " + list(", ", quotedName) + " FROM " + t.name + " WHERE 1 = 0"
}

// nthColumn is the place of a row in its file: of two with one id the first is
// taken, and rows are inserted in their order.
const nthColumn = "nth"

// insertStatement is which of the statements of a load inserts.
const insertStatement = 3

// load are the statements that bring the rows of a staged file into the table:
// each id once, and none that is there. token makes the name of the table that
// they are staged in.
//
// The lock comes first, so that the transaction sees all that earlier loads have
// committed: two loads of the same rows, one of them given up by us and still
// running, would otherwise not see each other where the isolation of the database
// is SNAPSHOT. Only loads take it: who reads the table waits for nothing.
//
// Nothing in these texts comes from an event.
func (t table) load(token, address, role string) []string {
	staged := quoteName("sluice_" + token)
	names, nth := list(", ", quotedName), quoteName(nthColumn)
	iamRole := "default"
	if role != iamRole {
		iamRole = quoteText(role)
	}
	return []string{
		"LOCK " + t.lock,
		"CREATE TEMP TABLE " + staged + " (" + nth + " BIGINT, " +
			list(", ", func(c column) string { return quoteName(c.name) + " " + c.staged }) + ")",
		fmt.Sprintf("COPY %s (%s, %s) FROM %s IAM_ROLE %s FORMAT JSON 'auto' GZIP COMPUPDATE OFF STATUPDATE OFF",
			staged, nth, names, quoteText(address), iamRole),
		fmt.Sprintf("INSERT INTO %s (%s)\nSELECT %s\n"+
			"FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY \"id\" ORDER BY %s) AS \"copy\" FROM %s) AS s\n"+
			"WHERE s.\"copy\" = 1 AND NOT EXISTS (SELECT 1 FROM %s AS t WHERE t.\"id\" = s.\"id\")\nORDER BY s.%s",
			t.name, names, list(", ", fromStaged), nth, staged, t.name, nth),
		"DROP TABLE " + staged,
	}
}

func fromStaged(c column) string {
	if c.kind == "TIMESTAMPTZ" {
		return "s." + quoteName(c.name) + "::TIMESTAMPTZ"
	}
	return "s." + quoteName(c.name)
}
