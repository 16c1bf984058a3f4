package clickhouse

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/warehouse"
)

// Check implements connector.Checker. It reads what the server says of itself and
// of the table, and writes nothing.
func (c *Connector) Check(ctx context.Context) connector.Result {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	answer, failed := c.ask(ctx, "SELECT currentUser(), version(), currentDatabase()")
	if failed != nil {
		return *failed
	}
	if len(answer) != 1 || len(answer[0]) != 3 {
		return connector.Result{Class: connector.Auth, Code: "not_clickhouse", Message: "url: what answers there is not ClickHouse"}
	}
	user, version, database := answer[0][0], answer[0][1], cmp.Or(c.table.database, answer[0][2])
	where := fmt.Sprintf("ClickHouse %s, user %s", version, user)
	auth := func(code, message string) connector.Result {
		return connector.Result{Class: connector.Auth, Code: code, Message: message + " (" + where + ")"}
	}

	// Names have no quote and no backslash.
	of := " WHERE database = '" + database + "' AND "
	columns, failed := c.ask(ctx, "SELECT name FROM system.columns"+of+"table = '"+c.table.name+"'")
	if failed != nil {
		return *failed
	}
	full := table{database, c.table.name}.String()
	if len(columns) == 0 {
		switch databases, failed := c.ask(ctx, "SELECT name FROM system.databases WHERE name = '"+database+"'"); {
		case failed != nil:
			return *failed
		case !c.cfg.CreateTable:
			return auth("60", missingTable+": "+full)
		case len(databases) == 0:
			return auth("81", missingBase+": "+database)
		case c.denied(ctx, "CREATE TABLE ON "+full):
			return auth("497", "user: may not create the table "+full)
		}
		return connector.Result{Class: connector.Delivered, Message: where + ": the table " + full + " does not exist and will be created"}
	}
	var missing []string
	for _, column := range warehouse.Columns {
		if !slices.ContainsFunc(columns, func(has []string) bool { return has[0] == column }) {
			missing = append(missing, column)
		}
	}
	switch {
	case len(missing) > 0:
		return auth("16", "table: "+full+" lacks the columns "+strings.Join(missing, ", "))
	case c.denied(ctx, "INSERT ON "+full):
		return auth("497", "user: may not insert into "+full)
	}
	message := where + ": the table " + full + " is there"
	engines, failed := c.ask(ctx, "SELECT engine_full FROM system.tables"+of+"name = '"+c.table.name+"'")
	if failed != nil {
		return *failed
	}
	if len(engines) > 0 && c.cfg.Dedup && !collapses(engines[0][0]) {
		message += "; it does not collapse rows of the same event (" + engines[0][0] + "), so that a call which is made again may leave some twice: see dedup"
	}
	return connector.Result{Class: connector.Delivered, Message: message}
}

// collapses reports whether a table with this engine and settings recognizes rows
// that it has. Those of a cluster know tokens by themselves.
func collapses(engine string) bool {
	for _, sign := range []string{"Replacing", "Replicated", "Shared", "non_replicated_deduplication_window"} {
		if strings.Contains(engine, sign) {
			return true
		}
	}
	return false
}

// denied reports whether the server says that the user lacks a right. Old servers
// do not know the question.
func (c *Connector) denied(ctx context.Context, right string) bool {
	answer, failed := c.ask(ctx, "CHECK GRANT "+right)
	return failed == nil && len(answer) == 1 && answer[0][0] == "0"
}

// ask returns the rows that a query gives, or the result of its failure.
func (c *Connector) ask(ctx context.Context, query string) (rows [][]string, failed *connector.Result) {
	x := c.run(ctx, query)
	if result := outcome(x); result.Class != connector.Delivered {
		switch result.Class {
		case connector.Permanent:
			result.Class = connector.Auth // of no row
		case connector.Ambiguous:
			result.Class = connector.Retryable // nothing is written
		}
		return nil, &result
	}
	for line := range strings.Lines(string(x.Body)) {
		rows = append(rows, strings.Split(strings.TrimSuffix(line, "\n"), "\t"))
	}
	return rows, nil
}
