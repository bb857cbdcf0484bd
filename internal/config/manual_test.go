package config

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/internal/disk"
	"github.com/btrfs-backup/btrfs-backup/internal/hook"
	pages "github.com/btrfs-backup/btrfs-backup/internal/manual"
	"github.com/btrfs-backup/btrfs-backup/internal/notify"
)

// explained gives the keys that have an item of their own in a section of btrfs-backup.toml(5), and the text of that.
func explained(title string) (keys []string, text string) {
	for _, s := range slices.Concat(pages.Config[0], pages.Config[1]) {
		if s.Title == title {
			for _, item := range s.Items {
				key, _, _ := strings.Cut(item[0], ".")
				keys = append(keys, strings.Split(key, ", ")...)
			}
			text += s.Text
		}
	}
	return keys, text
}

func TestTheManualExplainsEachKey(t *testing.T) {
	t.Parallel()
	known := map[string][]string{"JOBS": nil, "DISKS": tags(disk.Disk{}), "HOOKS": tags(hook.Hook{}), "NOTICES": tags(notify.Settings{})}
	for key := range keys {
		known["JOBS"] = append(known["JOBS"], key)
	}
	for title, all := range known {
		has, _ := explained(title)
		for _, key := range all {
			if !slices.Contains(has, key) {
				t.Errorf("%s: nothing explains %s", title, key)
			}
		}
		for _, key := range has {
			if !slices.Contains(all, key) {
				t.Errorf("%s: there is no key %s", title, key)
			}
		}
	}
	others, text := explained("OTHER TABLES AND KEYS")
	for title := range known {
		_, more := explained(title)
		text += more
	}
	for _, key := range topKeys {
		if !strings.Contains(text+strings.Join(others, " "), "["+key) && !slices.Contains(others, key) {
			t.Errorf("nothing explains %s", key)
		}
	}
	lists := ""
	for _, s := range pages.Config[1] {
		for _, item := range s.Items {
			lists += item[0] + ": " + item[1] + "\n"
		}
	}
	if list := "[exclude.NAME]: Lists of rules for exclude-lists: " + strings.Join(filterKeys, ", ") + "."; !strings.Contains(lists, list) {
		t.Errorf("it lacks %q", list)
	}
}

func tags(of any) (keys []string) {
	for i := range reflect.TypeOf(of).NumField() {
		if key := reflect.TypeOf(of).Field(i).Tag.Get("toml"); key != "" {
			keys = append(keys, key)
		}
	}
	return keys
}
