package disk

import (
	"fmt"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/transport"
)

// Plugged gives the UUID, as udev writes it, of what appears when the disk is plugged in: its LUKS container, or its filesystem.
// It is "" if neither the disk nor /etc/crypttab tells it; lack is what to do about that.
func (d Disk) Plugged() (uuid, lack string, err error) {
	if uuid, err = d.plugged(Options{}); uuid != "" || err != nil {
		return uuid, "", err
	}
	if d.LUKS != "" {
		return "", "name the device of " + d.LUKS + " by UUID= in /etc/crypttab", nil
	}
	return "", fmt.Sprintf("add uuid to [disk.%s]; findmnt -no UUID %s shows it while it is mounted", d.Name, transport.Quote(d.Mount)), nil
}

func (d Disk) plugged(o Options) (uuid string, err error) {
	uuid = d.UUID
	if d.LUKS != "" {
		lines, err := table(o.path("etc/crypttab"))
		if err != nil {
			return "", err
		}
		uuid = ""
		for _, words := range lines {
			if len(words) > 1 && words[0] == d.LUKS {
				uuid = uuidIn(words[1])
			}
		}
	}
	if strings.Count(uuid, "-") > 1 {
		return strings.ToLower(uuid), nil
	}
	return strings.ToUpper(uuid), nil // of FAT or NTFS
}

// uuidIn gives the UUID by which a device is named, or "".
func uuidIn(device string) string {
	for _, start := range []string{"UUID=", "/dev/disk/by-uuid/"} {
		if uuid, found := strings.CutPrefix(device, start); found && uuidForm.MatchString(strings.Trim(uuid, `"`)) {
			return strings.Trim(uuid, `"`)
		}
	}
	return ""
}
