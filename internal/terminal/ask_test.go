package terminal

import (
	"bytes"
	"testing"
)

func TestAQuestionOfAnotherMachineIsHarmless(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	prompt(&b, "one\n\x1b[2Jtwo:")
	if b.String() != "one\n"+`\x1b[2Jtwo: ` {
		t.Errorf("asked %q", b.String())
	}
}
