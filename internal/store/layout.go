package store

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/internal/object"

	"golang.org/x/crypto/blake2b"
)

const (
	backupsPrefix = object.BackupsPrefix
	indexPrefix   = object.IndexPrefix
	manifestName  = object.ManifestName
	dataName      = "data."
	namesName     = "names."
	longest       = 120 // bytes of a name in a key
)

// SourceName gives the name under which the backups of a source lie: its machine and path, as far as they are letters, digits and the
// like.
func SourceName(host, dir string) string {
	return escape(host) + strings.ReplaceAll(escape("/"+strings.Trim(dir, "/")), "=2F", "_")
}

// HiddenName gives in place of a name one that tells nobody anything but who has the secret.
func HiddenName(name string, secret []byte) string {
	h, err := blake2b.New256(secret)
	if err != nil {
		panic("internal error: a secret of more than 64 bytes")
	}
	h.Write([]byte(name))
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// escape writes a name as one of a key.
func escape(name string) string {
	var to strings.Builder
	for i, c := range []byte(name) {
		plain := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '.' && i > 0
		if plain {
			to.WriteByte(c)
		} else {
			fmt.Fprintf(&to, "=%02X", c)
		}
	}
	text := to.String()
	if len(text) > longest {
		sum := blake2b.Sum256([]byte(name))
		text = text[:longest-2*8-2] + "=." + hex.EncodeToString(sum[:8])
	}
	return text
}

// newDir gives the directory of a new attempt to store a backup.
func newDir(source, name string) string {
	attempt := make([]byte, 4)
	_, _ = rand.Read(attempt) // which never fails
	return backupsPrefix + source + "/" + escape(name) + "." + hex.EncodeToString(attempt) + "/"
}

// dirOf gives the directory of an object, and whether it is one of a backup.
func dirOf(key string) (dir string, ok bool) {
	rest, ok := strings.CutPrefix(key, backupsPrefix)
	return path.Dir(key) + "/", ok && strings.Count(rest, "/") == 2
}

// titleOf gives the name of the snapshot, as far as a directory tells it.
func titleOf(dir string) string {
	name := path.Base(dir)
	if dot := strings.LastIndexByte(name, '.'); dot > 0 {
		name = name[:dot]
	}
	return unescape(name)
}

func unescape(text string) string {
	var to strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] == '=' && i+2 < len(text) {
			if c, err := strconv.ParseUint(text[i+1:i+3], 16, 8); err == nil {
				to.WriteByte(byte(c))
				i += 2
				continue
			}
		}
		to.WriteByte(text[i])
	}
	return to.String()
}

// partKey gives the key of a part. There are enough digits for the order of names to be that of numbers.
func partKey(dir, kind string, n int) string { return fmt.Sprintf("%s%s%06d", dir, kind, n) }

// PlainName gives the machine and path in the name of a source, as MACHINE:PATH; "" if they are hidden, or cut.
func PlainName(source string) string {
	machine, dir, found := strings.Cut(source, "_")
	if !found || strings.Contains(source, "=.") {
		return ""
	}
	return unescape(machine) + ":/" + unescape(strings.ReplaceAll(dir, "_", "/"))
}
