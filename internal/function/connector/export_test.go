package connector

// For tests: the function with connectors of their own, and the decoder.
var (
	Build         = build
	ParseSettings = parseSettings
	Decode        = decode
)
