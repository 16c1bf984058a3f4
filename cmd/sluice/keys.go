package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/eventsluice/sluice/internal/app"
)

func newKeys(settings *app.Settings) *cobra.Command {
	return group("keys", "Make, list, rotate and revoke keys",
		newKeyCommand(settings),
		&cobra.Command{
			Use:   "list",
			Short: "List the keys, without anything secret",
			Args:  noArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				if err := fill(cmd, settings); err != nil {
					return err
				}
				return app.ListKeys(cmd.Context(), *settings, cmd.OutOrStdout())
			},
		},
		&cobra.Command{
			Use:   "revoke ID",
			Short: "Disable a key for good; running gateways refuse it a moment later",
			Args:  exactArgs("ID"),
			RunE: func(cmd *cobra.Command, args []string) error {
				if err := fill(cmd, settings); err != nil {
					return err
				}
				return app.RevokeKey(cmd.Context(), *settings, args[0], cmd.OutOrStdout())
			},
		},
		rotateKeyCommand(settings),
	)
}

func newKeyCommand(settings *app.Settings) *cobra.Command {
	var key app.NewKey
	create := &cobra.Command{
		Use:   "new",
		Short: "Make a key, add its hash to the keys document, print the key once",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := fill(cmd, settings); err != nil {
				return err
			}
			if err := key.CheckUse(); err != nil {
				return wrongUse{err}
			}
			return app.AddKey(cmd.Context(), *settings, key, cmd.OutOrStdout())
		},
	}
	flags := create.Flags()
	flags.StringVar(&key.ID, "id", "", "name of the key")
	flags.StringVar(&key.Kind, "kind", "write", "write (public: pages and apps), secret (back ends) or token (users with a JWT)")
	flags.StringVar(&key.Source, "source", "", "source that its events carry (default: the id)")
	flags.StringSliceVar(&key.Origins, "origin", nil, "web origin that may use it, such as https://shop.example (repeatable)")
	flags.StringSliceVar(&key.Events, "event", nil, "event name that it may send, such as order_* (repeatable)")
	flags.StringSliceVar(&key.IPs, "ips", nil, "range of addresses that may use it, such as 10.0.0.0/8 (repeatable)")
	flags.Float64Var(&key.Rate, "rate", 0, "events per second; 0 is no limit")
	flags.IntVar(&key.Burst, "burst", 0, "events at once (default: the rate)")
	flags.Float64Var(&key.UserRate, "user-rate", 0, "events per second of one user; 0 is no limit")
	flags.Float64Var(&key.EventRate, "event-rate", 0, "events per second of one name; 0 is no limit")
	flags.DurationVar(&key.Expires, "expires", 0, "how long it is valid; 0 is for ever")
	flags.StringVar(&key.Value, "value", "", "write key that somebody has already, such as an app id or a token of another product (default: a new one)")
	flags.StringVar(&key.Signature, "signature", "", "its requests must be signed with the secret at env:NAME or file:PATH; new makes a secret and prints it")
	flags.StringVar(&key.Tolerance, "tolerance", "", "how far the timestamp of a signature may be from the gateway's clock (default 5m)")
	flags.StringToStringVar(&key.Modes, "modes", nil, "mode of a restriction: off, observe or enforce, such as ips=observe (repeatable)")
	flags.StringVar(&key.Token, "token", "", "id of the key of kind token, a token of which must come along and name the user")
	flags.StringVar(&key.Issuer, "issuer", "", "kind token: issuer (iss) of its tokens")
	flags.StringSliceVar(&key.Audience, "audience", nil, "kind token: audience (aud) of its tokens (repeatable)")
	flags.StringVar(&key.JWKS, "jwks", "", "kind token: where the issuer's public keys are, an https URL or file:PATH")
	flags.StringVar(&key.UserClaim, "user-claim", "", "kind token: claim that holds the user_id of its events (default sub)")
	return create
}

func rotateKeyCommand(settings *app.Settings) *cobra.Command {
	var overlap time.Duration
	rotate := &cobra.Command{
		Use:   "rotate ID",
		Short: "Give a key a new value, print it once; the old one works for a while",
		Args:  exactArgs("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := fill(cmd, settings); err != nil {
				return err
			}
			if overlap < 0 {
				return wrongUse{fmt.Errorf("--overlap %s: right would be 0 or more", overlap)}
			}
			return app.RotateKey(cmd.Context(), *settings, args[0], overlap, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	rotate.Flags().DurationVar(&overlap, "overlap", 24*time.Hour, "how long the old value works beside the new one; 0 ends it at once")
	return rotate
}
