package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/eventsluice/sluice/internal/event"
)

// PathOf returns the file of a warehouse with these settings, in a data folder.
func PathOf(raw json.RawMessage, dataDir string) string {
	var cfg Config
	if json.Unmarshal(raw, &cfg) != nil || cfg.Path == "" {
		return filepath.Join(dataDir, FileName)
	}
	return cfg.Path
}

// Read calls yield with the events of a warehouse, the newest first: those of a
// name, or all if it is "", and at most limit. It changes nothing and disturbs
// no writer. An error of yield ends it.
func Read(ctx context.Context, path, name string, limit int, yield func(*event.Event) error) (err error) {
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("warehouse: %w", err)
	}
	db, err := sql.Open("sqlite", dsn(path)+"?mode=ro&_pragma=busy_timeout(5000)")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	rows, err := db.QueryContext(ctx, `SELECT id, type, name, user_id, anonymous_id, timestamp, received_at, source, data, context
		FROM events WHERE ?1 = '' OR name = ?1 ORDER BY rowid DESC LIMIT ?2`, name, limit)
	if err != nil {
		return fmt.Errorf("warehouse %s: %w", path, err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var ev event.Event
		var user, anonymous, timestamp, received, source sql.NullString
		var data, eventContext string
		if err := rows.Scan(&ev.ID, &ev.Type, &ev.Name, &user, &anonymous, &timestamp, &received, &source, &data, &eventContext); err != nil {
			return fmt.Errorf("warehouse %s: %w", path, err)
		}
		ev.UserID, ev.AnonymousID, ev.Timestamp, ev.ReceivedAt, ev.Source = user.String, anonymous.String, timestamp.String, received.String, source.String
		ev.Data, ev.Context = json.RawMessage(data), json.RawMessage(eventContext)
		if err := yield(&ev); err != nil {
			return err
		}
	}
	return rows.Err()
}
