package main

import (
	"github.com/spf13/cobra"

	"github.com/eventsluice/sluice/internal/app"
)

func newDoctor(settings *app.Settings) *cobra.Command {
	var o app.DoctorOptions
	cmd := &cobra.Command{
		Use:   "doctor --origin URL --key KEY",
		Short: "Say why events of a page do not arrive, and what would mend it; exit status 1 if anything fails",
		Long: `Say why events of a page do not arrive, and what would mend it; exit status 1 if
anything fails.

It sends to a running gateway what a browser sends for a page of the origin: the
preflights of common SDKs, of their retries and of fetch, and requests with the
key. It decides about the answers as browsers do, and says what they would show.
Nothing is stored: the requests have no events.

Where the keys document (--keys) is at hand, changes are said in its terms. With
--gateway naming a proxy and a gateway running on the data folder, the two are
compared.`,
		Example: `  sluice doctor --origin https://shop.example --key wk_… --gateway https://events.shop.example`,
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := fill(cmd, settings); err != nil {
				return err
			}
			examination, err := app.NewExamination(cmd.Context(), *settings, o)
			if err != nil {
				return wrongUse{err}
			}
			return examination.Run(cmd.Context(), cmd.OutOrStdout())
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.Origin, "origin", "", "web origin of the page, such as https://shop.example")
	flags.StringVar(&o.Key, "key", "", "write key that the page uses")
	flags.StringVar(&o.Gateway, "gateway", "", "address that the page sends to (default: the gateway that runs on the data folder)")
	return cmd
}
