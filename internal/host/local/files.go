package local

import (
	"fmt"
	"io"
	"os"
)

// maxFile is the largest file of ours that is read.
const maxFile = 16 << 20

// readAll gives the content of a file, never nil.
func readAll(f *os.File) ([]byte, error) {
	content := make([]byte, 0, 512)
	rest, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(rest) > maxFile {
		err = fmt.Errorf("%s has more than %d bytes", f.Name(), maxFile)
	}
	return append(content, rest...), err
}
