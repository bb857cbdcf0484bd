package manifest

import (
	"encoding/hex"
	"fmt"
	"io"
	"strings"
)

// Sum writes the line by which "sha256sum --check", run in the root of the tree, checks a regular file. For other files it writes
// nothing. A regular file without SHA256 is an error: it would pass by not being in the list.
func Sum(w io.Writer, e Entry) error {
	if e.Type != Regular {
		return nil
	}
	if e.SHA256 == (Digest{}) || e.Sparse {
		return fmt.Errorf("the manifest has no SHA-256 of %q", e.Path)
	}
	// coreutils/src/digest.c: a line that begins with a backslash has an escaped name. Without "./" the name "-" would be the
	// standard input.
	var b []byte
	name := escapeSum.Replace(e.Path)
	if name != e.Path {
		b = append(b, '\\')
	}
	b = hex.AppendEncode(b, e.SHA256[:])
	b = append(append(b, "  ./"...), name...)
	_, err := w.Write(append(b, '\n'))
	return err
}

var escapeSum = strings.NewReplacer(`\`, `\\`, "\n", `\n`, "\r", `\r`)
