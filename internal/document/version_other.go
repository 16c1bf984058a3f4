//go:build !unix

package document

import (
	"fmt"
	"os"
)

func fileVersion(info os.FileInfo) string {
	return fmt.Sprintf("%d-%d", info.Size(), info.ModTime().UnixNano())
}
