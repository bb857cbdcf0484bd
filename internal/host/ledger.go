package host

import (
	"fmt"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/lock"
)

// ParseLedger reads the ledger of a folder; see lock.ParseLedger.
func ParseLedger(folder string, file File, ours func(name string) bool) (*lock.Ledger, error) {
	content, err := file.Read()
	var l *lock.Ledger
	if err == nil {
		l, err = lock.ParseLedger(content, ours)
	}
	if err != nil {
		return nil, hint.New(fmt.Errorf("reading %s: %w", folder+"/"+lock.LedgerFile, err),
			"repair the file or move it away; until then nothing is deleted in this folder")
	}
	return l, nil
}
