// Command rows prints what a warehouse file holds, oldest first.
//
//	go run ./examples/rows .sluice/warehouse.db
package main

import (
	"database/sql"
	"fmt"
	"os"

	_ "modernc.org/sqlite"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: rows WAREHOUSE.db")
		os.Exit(2)
	}
	if err := printRows(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "rows:", err)
		os.Exit(1)
	}
}

func printRows(file string) error {
	db, err := sql.Open("sqlite", "file:"+file+"?mode=ro")
	if err != nil {
		return err
	}
	defer db.Close()
	rows, err := db.Query(`SELECT received_at, name, data FROM events ORDER BY rowid`)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var at, name, data string
		if err := rows.Scan(&at, &name, &data); err != nil {
			return err
		}
		fmt.Printf("%s  %s  %s\n", at, name, data)
	}
	return rows.Err()
}
