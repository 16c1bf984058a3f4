package letters

import (
	"github.com/eventsluice/sluice/internal/cloud/grave"
	"github.com/eventsluice/sluice/internal/cloud/queue"
	"github.com/eventsluice/sluice/internal/deadletter"
)

// Grave is where a function puts its dead letters.
type Grave = grave.Grave

// Encode makes a letter a message, which Parse understands.
func Encode(l deadletter.Letter) (queue.Message, error) { return grave.Encode(l) }
