package serve

import (
	"testing"

	"github.com/btrfs-backup/btrfs-backup/internal/host/protocol"
)

func TestEveryVerbIsAnsweredUnderANameOfItsOwn(t *testing.T) {
	seen := make(map[string]bool)
	for _, v := range protocol.All() {
		if seen[v.Name] {
			t.Errorf("%q are two verbs", v.Name)
		}
		seen[v.Name] = true
		if h, ok := handlers[v.Name]; !ok || h.About != v {
			t.Errorf("%q is answered by %+v", v.Name, h.About)
		}
	}
	if len(handlers) != len(seen) {
		t.Errorf("%d handlers of %d verbs", len(handlers), len(seen))
	}
}
