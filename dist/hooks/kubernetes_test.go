package hooks_test

import (
	"os"
	"path/filepath"
	"testing"
)

const (
	drain    = "prepare.d/50-kubernetes-drain"
	uncordon = "restore.d/50-kubernetes-drain"
)

// kubectl installs a stand-in that knows one node, node-1, with or without a file
// that says that it is unschedulable. The file "fails" names a verb that fails.
func (m *machine) kubectl() {
	m.t.Helper()
	m.env = append(m.env, "NODE=node-1")
	m.tool("kubectl", `
case $1 in --request-timeout=*) shift ;; esac
if [ -e $dir/fails ] && [ "$(cat $dir/fails)" = "$1" ]; then
	echo "error: cannot $1" >&2
	exit 1
fi
echo "$KUBECONFIG" >$dir/kubeconfig
case $1 in
get) if [ -e $dir/unschedulable ]; then printf true; fi ;;
cordon | drain) touch $dir/unschedulable ;;
uncordon) rm -f $dir/unschedulable ;;
esac
`)
}

func (m *machine) schedulable() bool {
	_, err := os.Stat(filepath.Join(m.dir, "unschedulable"))
	return err != nil
}

const (
	getCall      = "kubectl --request-timeout=20s get node node-1 -o jsonpath={.spec.unschedulable}"
	cordonCall   = "kubectl --request-timeout=20s cordon node-1"
	drainCall    = "kubectl drain node-1 --ignore-daemonsets --delete-emptydir-data --timeout=240s"
	waitCall     = "kubectl wait --for=condition=Ready node/node-1 --timeout=120s"
	uncordonCall = "kubectl --request-timeout=20s uncordon node-1"
)

func TestDrain(t *testing.T) {
	m := newMachine(t)
	m.kubectl()
	m.passes(drain)
	m.called(getCall, cordonCall, drainCall)
	m.passes(uncordon)
	m.called(waitCall, uncordonCall)
	if !m.schedulable() {
		t.Error("the node is still unschedulable")
	}
	m.forgotten()
	m.passes(uncordon) // nothing is left to do
	m.called()
	if text, _ := os.ReadFile(filepath.Join(m.dir, "kubeconfig")); string(text) != "/etc/locksmith/kubeconfig\n" {
		t.Errorf("KUBECONFIG was %q", text)
	}
}

func TestDrainSettings(t *testing.T) {
	m := newMachine(t)
	m.kubectl()
	m.must(os.Rename(filepath.Join(m.dir, "bin/kubectl"), filepath.Join(m.dir, "bin/k")))
	m.file("conf/kubernetes-drain.conf", "NODE=node-2\nKUBECTL=k\nKUBECONFIG=/etc/x\nDRAIN_TIMEOUT=9s\nDRAIN_OPTIONS='--force --grace-period=*'\nREADY_TIMEOUT=8s\n", 0o644)
	m.passes(drain)
	m.passes(uncordon)
	m.called("kubectl --request-timeout=20s get node node-2 -o jsonpath={.spec.unschedulable}",
		"kubectl --request-timeout=20s cordon node-2",
		"kubectl drain node-2 --ignore-daemonsets --delete-emptydir-data --timeout=9s --force --grace-period=*",
		"kubectl wait --for=condition=Ready node/node-2 --timeout=8s", "kubectl --request-timeout=20s uncordon node-2")
	if text, _ := os.ReadFile(filepath.Join(m.dir, "kubeconfig")); string(text) != "/etc/x\n" {
		t.Errorf("KUBECONFIG was %q", text)
	}
}

// Run again, the hook does not take its own cordon for an administrator's.
func TestDrainTwice(t *testing.T) {
	m := newMachine(t)
	m.kubectl()
	m.file("fails", "drain", 0o644)
	m.fails(drain, "error: cannot drain")
	m.must(os.Remove(filepath.Join(m.dir, "fails")))
	m.passes(drain)
	m.called(getCall, cordonCall, drainCall, cordonCall, drainCall)
	m.file("fails", "wait", 0o644)
	m.fails(uncordon, "error: cannot wait")
	if m.schedulable() {
		t.Error("a node that is not ready was made schedulable")
	}
	m.file("fails", "uncordon", 0o644)
	m.fails(uncordon, "error: cannot uncordon")
	m.must(os.Remove(filepath.Join(m.dir, "fails")))
	m.passes(uncordon)
	if !m.schedulable() {
		t.Error("the node is still unschedulable")
	}
	m.forgotten()
}

func TestDrainCordonedBefore(t *testing.T) {
	m := newMachine(t)
	m.kubectl()
	m.file("unschedulable", "", 0o644)
	m.passes(drain)
	m.passes(drain)
	m.called(getCall, cordonCall, drainCall, cordonCall, drainCall)
	m.passes(uncordon)
	m.called()
	if m.schedulable() {
		t.Error("the administrator's cordon is gone")
	}
	m.forgotten()
}

func TestDrainUnknown(t *testing.T) {
	m := newMachine(t)
	m.kubectl()
	m.file("fails", "get", 0o644)
	m.fails(drain, "error: cannot get")
	m.called(getCall)
	m.passes(uncordon) // nothing was changed
	m.called()
	m.tool("kubectl", "echo maybe")
	m.fails(drain, `kubectl says "maybe" when asked whether node node-1 is unschedulable`)
	m.called(getCall)
	m.file("state/kubernetes-drain", "what?", 0o600)
	m.fails(uncordon, "see whether node node-1 should be schedulable, then remove the file")
	m.called()
}
