package host

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/btrfs-backup/btrfs-backup/internal/tree"
)

// machineIDFiles hold the identity of this machine, see machine-id(5).
var machineIDFiles = []string{"/etc/machine-id", "/var/lib/dbus/machine-id"}

// application is the UUID 7d0c8c54-2f0e-4a35-b7c1-3c7c7f0a6b19, which means this program.
var application = []byte{0x7d, 0x0c, 0x8c, 0x54, 0x2f, 0x0e, 0x4a, 0x35, 0xb7, 0xc1, 0x3c, 0x7c, 0x7f, 0x0a, 0x6b, 0x19}

// machineID identifies this machine by the first of the files that does, and is "" if none does. The identity itself is confidential,
// so it gives what sd_id128_get_machine_app_specific(3) does.
func machineID(files []string) string {
	for _, file := range files {
		content, err := os.ReadFile(file)
		id, malformed := hex.DecodeString(strings.TrimSpace(string(content)))
		if err != nil || malformed != nil || len(id) != len(application) {
			continue // an image of a container may have an empty file
		}
		hash := hmac.New(sha256.New, id)
		hash.Write(application)
		sum := hash.Sum(nil)[:len(application)]
		sum[6] = sum[6]&0x0f | 0x40 // RFC 9562: version 4
		sum[8] = sum[8]&0x3f | 0x80 // and its variant
		return hex.EncodeToString(sum)
	}
	return ""
}

// OriginOf is that of a directory. Of another machine, the name by which it is reached here is known.
func OriginOf(h Host, path string) tree.Origin {
	if name := h.String(); name != "" {
		return tree.Origin{Source: PlaceName(name + path)}
	}
	return OriginHere(path)
}

// OriginHere is that of a directory of this machine.
func OriginHere(path string) tree.Origin {
	name, err := os.Hostname()
	if err != nil {
		name = "localhost"
	}
	return tree.Origin{Source: PlaceName(name + ":" + path), Machine: machineID(machineIDFiles)}
}

// PlaceName quotes the name of a place that JSON, and so a ledger or a record, could not hold.
func PlaceName(place string) string {
	if !utf8.ValidString(place) {
		return strconv.Quote(place)
	}
	return place
}
