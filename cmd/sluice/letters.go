package main

import (
	"github.com/spf13/cobra"

	"github.com/eventsluice/sluice/internal/app"
)

const (
	deadLetters = "dlq"
	quarantine  = "quarantine"
)

func newLetters(*app.Settings, string) *cobra.Command { return &cobra.Command{Use: "x", Hidden: true} }
