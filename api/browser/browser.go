// Package browser holds the snippet that sends the events of a page, for
// gateways to serve: sluice.js is its source and says how it is used,
// sluice.min.js what pages load.
package browser

import _ "embed"

//go:generate go test -run ^TestTheMinifiedSnippetIsUpToDate$ -update

// Snippet is the minified snippet.
//
//go:embed sluice.min.js
var Snippet []byte
