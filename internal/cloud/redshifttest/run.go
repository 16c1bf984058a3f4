package redshifttest

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// run runs a batch to its end.
func (s *Server) run(ctx context.Context, b *batch, held <-chan struct{}, endings []ending) {
	if held != nil {
		select {
		case <-held:
		case <-ctx.Done():
		}
	}
	s.set(b, func() { b.status = Started })
	var err error
	if len(endings) > 0 {
		s.set(b, func() { b.status, b.err = endings[0].status, endings[0].text })
		return
	}
	err = s.transact(ctx, b)
	s.set(b, func() {
		switch {
		case err == nil:
			b.status = Finished
		case ctx.Err() != nil:
			b.status, b.err = Aborted, "Query cancelled on user's request"
		default:
			b.status, b.err = Failed, words(err)
		}
	})
}

func (s *Server) set(b *batch, change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b.updated = time.Now()
	change()
}

// transact runs the statements as one transaction.
func (s *Server) transact(ctx context.Context, b *batch) error {
	conn, err := pgx.Connect(ctx, s.config.Postgres)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	staged := map[string]map[string]kind{}
	for _, sql := range b.statements {
		var rows int64
		if strings.HasPrefix(sql, "COPY ") {
			rows, err = s.copy(ctx, tx, sql, staged)
		} else {
			if name, columns := created(sql); name != "" {
				staged[name] = columns
			}
			var tag pgconn.CommandTag
			tag, err = tx.Exec(ctx, translate(sql))
			rows = tag.RowsAffected()
		}
		if err != nil {
			return err
		}
		s.set(b, func() { b.rows = append(b.rows, rows) })
	}
	return tx.Commit(ctx)
}

var (
	superType   = regexp.MustCompile(`\bSUPER\b`)
	physicalKey = regexp.MustCompile(`\s(DISTKEY|SORTKEY) \([^)]*\)`)
	primaryKey  = regexp.MustCompile(`,\s*PRIMARY KEY \([^)]*\)`)
	createTable = regexp.MustCompile(`(?s)^CREATE TEMP TABLE ("[^"]+") \((.*)\)$`)
	columnType  = regexp.MustCompile(`"([^"]+)" (VARCHAR|BIGINT|SUPER)(?:\(([0-9]+)\))?`)
)

// translate makes a statement one of PostgreSQL.
func translate(sql string) string {
	if !strings.HasPrefix(sql, "CREATE ") {
		return sql
	}
	sql = superType.ReplaceAllString(sql, "jsonb")
	sql = physicalKey.ReplaceAllString(sql, "")
	return primaryKey.ReplaceAllString(sql, "") // Redshift only notes it
}

// kind is the type of a column that COPY loads.
type kind struct {
	name string
	most int // bytes of a VARCHAR
}

// created returns the name of a temporary table that a statement creates, and
// its columns.
func created(sql string) (name string, columns map[string]kind) {
	m := createTable.FindStringSubmatch(sql)
	if m == nil {
		return "", nil
	}
	columns = map[string]kind{}
	for _, c := range columnType.FindAllStringSubmatch(m[2], -1) {
		most, _ := strconv.Atoi(c[3])
		columns[c[1]] = kind{c[2], most}
	}
	return m[1], columns
}

// words are what Redshift says where PostgreSQL gives an error.
func words(err error) string {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return err.Error()
	}
	return "ERROR: " + strings.Replace(pg.Message, "permission denied for table ", "permission denied for relation ", 1)
}

// copyStatement is the COPY that is understood.
var copyStatement = regexp.MustCompile(`^COPY "([^"]+)" \(([^)]*)\) FROM 's3://([^/']+)/([^']*)' IAM_ROLE ('arn:aws:iam::[0-9]{12}:role/[^']+'|default) FORMAT JSON 'auto' GZIP COMPUPDATE OFF STATUPDATE OFF$`)

// Limits of COPY. Sources: Redshift, "COPY from JSON format" and "Limitations" of
// SUPER (read 2026-11).
const (
	maxRow    = 4 << 20
	maxString = 16_000_000
)

// copy loads all objects with a prefix.
func (s *Server) copy(ctx context.Context, tx pgx.Tx, sql string, staged map[string]map[string]kind) (int64, error) {
	m := copyStatement.FindStringSubmatch(sql)
	if m == nil {
		return 0, errors.New("ERROR: syntax error at or near \"COPY\"")
	}
	table, bucket, prefix := m[1], m[3], m[4]
	var columns []string
	for name := range strings.SplitSeq(m[2], ",") {
		columns = append(columns, strings.Trim(name, ` "`))
	}
	kinds, ok := staged[`"`+table+`"`]
	if !ok {
		return 0, fmt.Errorf("ERROR: relation %q does not exist", table)
	}
	keys, err := s.config.Buckets.Keys(bucket)
	if err != nil {
		return 0, fmt.Errorf("ERROR: S3ServiceException:The specified bucket does not exist,Status 404,Error NoSuchBucket")
	}
	keys = slices.DeleteFunc(keys, func(key string) bool { return !strings.HasPrefix(key, prefix) })
	if len(keys) == 0 {
		return 0, fmt.Errorf("ERROR: The specified S3 prefix '%s' does not exist", prefix)
	}
	var rows [][]any
	for _, key := range keys {
		body, err := s.config.Buckets.Get(bucket, key)
		if err != nil {
			return 0, fmt.Errorf("ERROR: S3ServiceException:%w", err)
		}
		if rows, err = appendRows(rows, body, columns, kinds); err != nil {
			return 0, fmt.Errorf("ERROR: Load into table '%s' failed.  Check 'sys_load_error_detail' system table for details. (%w)", table, err)
		}
	}
	return tx.CopyFrom(ctx, pgx.Identifier{table}, columns, pgx.CopyFromRows(rows))
}

// appendRows reads the rows of a file.
func appendRows(rows [][]any, body []byte, columns []string, kinds map[string]kind) ([][]any, error) {
	r, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	d := json.NewDecoder(r)
	for {
		var object json.RawMessage
		if err := d.Decode(&object); errors.Is(err, io.EOF) {
			return rows, nil
		} else if err != nil {
			return nil, err
		}
		if len(object) > maxRow {
			return nil, fmt.Errorf("a row has %d bytes", len(object))
		}
		var members map[string]json.RawMessage
		if err := json.Unmarshal(object, &members); err != nil {
			return nil, err
		}
		row := make([]any, len(columns))
		for i, name := range columns {
			value, ok := members[name]
			if !ok {
				continue
			}
			switch k := kinds[name]; k.name {
			case "VARCHAR":
				row[i], err = text(value, k.most)
			case "BIGINT":
				row[i], err = strconv.ParseInt(string(value), 10, 64)
			case "SUPER":
				row[i], err = super(value)
			default:
				err = errors.New("does not exist")
			}
			if err != nil {
				return nil, fmt.Errorf("column %s: %w", name, err)
			}
		}
		rows = append(rows, row)
	}
}

// text reads a VARCHAR.
func text(value json.RawMessage, most int) (string, error) {
	var s string
	if err := json.Unmarshal(value, &s); err != nil {
		return "", err
	}
	if strings.ContainsRune(s, 0) {
		return "", errors.New("invalid null byte")
	}
	if len(s) > most {
		return "", errors.New("String length exceeds DDL length") //nolint:revive,staticcheck // Redshift's words
	}
	return s, nil
}

// super checks a SUPER.
func super(value json.RawMessage) (string, error) {
	d := json.NewDecoder(bytes.NewReader(value))
	d.UseNumber()
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return string(value), nil
		}
		if err != nil {
			return "", err
		}
		if s, ok := token.(string); ok && (len(s) > maxString || strings.ContainsRune(s, 0)) {
			return "", errors.New("a string is too long or has a null byte")
		}
	}
}
