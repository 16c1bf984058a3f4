package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/warehouse"
)

// Check implements connector.Checker. It writes nothing: it asks the server how
// it would carry out an insertion.
func (c *Connector) Check(ctx context.Context) connector.Result {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	found, err := c.check(ctx)
	if err != nil {
		return c.failure(notCommitted(err))
	}
	return found
}

// whereabouts asks who and where we are, and what is there: the last four are
// whether this is a standby, whether the table exists, in which schema it would
// be made (NULL: there is none), and whether the role may do that.
const whereabouts = `SELECT current_user, current_database(), current_setting('server_version'), pg_is_in_recovery(),
	to_regclass($1) IS NOT NULL, n.nspname, coalesce(has_schema_privilege(n.oid, 'CREATE'), false)
FROM (SELECT coalesce($2, current_schema()) AS schema) AS s LEFT JOIN pg_namespace AS n ON n.nspname = s.schema`

func (c *Connector) check(ctx context.Context) (connector.Result, error) {
	pool, err := c.connect(ctx)
	if err != nil {
		return connector.Result{}, err
	}
	var (
		role, database, version string
		standby, exists, create bool
		schema, wanted          *string
	)
	if len(c.table) > 1 {
		wanted = &c.table[0]
	}
	if err := pool.QueryRow(ctx, whereabouts, pgx.QueryExecModeExec, c.table.String(), wanted).
		Scan(&role, &database, &version, &standby, &exists, &schema, &create); err != nil {
		return connector.Result{}, err
	}
	where := fmt.Sprintf("PostgreSQL %s, database %s, role %s", version, database, role)
	auth := func(code, message string) (connector.Result, error) {
		return connector.Result{Class: connector.Auth, Code: code, Message: message + " (" + where + ")"}, nil
	}
	switch {
	case standby:
		return auth(readOnlyTransaction, "url: leads to a standby, which takes no rows")
	case exists:
		if _, err := pool.Exec(ctx, c.sql.ask, append([]any{pgx.QueryExecModeExec}, make([]any, len(warehouse.Columns))...)...); err != nil {
			return connector.Result{}, err
		}
		return connector.Result{Class: connector.Delivered, Message: fmt.Sprintf("%s: the table %s takes rows", where, c.table)}, nil
	case !c.cfg.CreateTable:
		return auth(undefinedTable, c.advice(undefinedTable))
	case schema == nil:
		return auth(classSchemaName+"000", c.advice(classSchemaName))
	case !create:
		return auth(insufficientPrivilege, "table: "+c.table.String()+" does not exist, and the role may not create it in schema "+*schema)
	}
	return connector.Result{Class: connector.Delivered, Message: fmt.Sprintf("%s: the table %s does not exist and will be created in schema %s", where, c.table, *schema)}, nil
}
