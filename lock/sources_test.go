package lock

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
)

func TestSourcesThatAreSavedSideBySideAreAllRemembered(t *testing.T) {
	s := Sources{filepath.Join(t.TempDir(), "state")}
	var setting sync.WaitGroup
	for i := range 10 {
		setting.Go(func() {
			for n := range 3 {
				if err := s.Set(t.Context(), fmt.Sprint(i), []string{fmt.Sprint("uuid", n)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	setting.Wait()
	for i := range 10 {
		if got, err := s.Of(fmt.Sprint(i)); err != nil || !slices.Equal(got, []string{"uuid2"}) {
			t.Errorf("on record are %v, error: %v", got, err)
		}
	}
}

func TestAnUnreadableRecordOfSourcesIsAnErrorAndNeverOverwritten(t *testing.T) {
	s := Sources{t.TempDir()}
	if got, err := s.Of("/x"); got != nil || err != nil {
		t.Errorf("without a record: %v, %v", got, err)
	}
	file := s.record().path()
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Of("/x"); err == nil {
		t.Error("a damaged record is read")
	}
	if err := s.Set(t.Context(), "/x", []string{"uuid"}); err == nil {
		t.Error("a damaged record is replaced")
	}
	if content, err := os.ReadFile(file); err != nil || string(content) != "{" {
		t.Errorf("it holds %q, %v", content, err)
	}
	if err := (Sources{}).Set(t.Context(), "/x", []string{"uuid"}); err != nil {
		t.Errorf("nothing is to be remembered: %v", err)
	}
}
