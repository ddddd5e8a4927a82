package clock

import (
	"bufio"
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Supported says whether Follow works here.
const Supported = true

// What the function in clock_amd64.s reads, and its own address.
var (
	//lint:ignore U1000 read there
	kernels uintptr // the kernel's function
	//lint:ignore U1000 read there
	step      *int64 // what is added to the wall clock, in seconds
	steppedAt uintptr
)

// atSysinfoEhdr is the kind of the auxiliary value that says where the kernel's
// functions are.
const atSysinfoEhdr = 33

// Follow has this process see the wall clock that Set sets in a file, at once and from
// now on. It is called once.
func Follow(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("following a clock: %w", err)
	}
	defer f.Close()
	page, err := unix.Mmap(int(f.Fd()), 0, 8, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("following the clock %s: %w", path, err)
	}
	memory, err := os.OpenFile("/proc/self/mem", os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("following a clock: %w", err)
	}
	defer memory.Close()
	function, err := kernelsFunction(memory)
	if err != nil {
		return fmt.Errorf("finding the kernel's clock: %w", err)
	}
	at, err := keptAt(memory, function)
	if err != nil {
		return fmt.Errorf("finding where the runtime keeps the kernel's clock: %w", err)
	}
	kernels, step = uintptr(function), (*int64)(unsafe.Pointer(&page[0]))
	if _, err := memory.WriteAt(word(uint64(steppedAt)), at); err != nil {
		return fmt.Errorf("taking the place of the kernel's clock: %w", err)
	}
	return nil
}

func word(w uint64) []byte { return binary.LittleEndian.AppendUint64(nil, w) }

// kernelsFunction is the address of the kernel's clock_gettime in this process.
func kernelsFunction(memory *os.File) (uint64, error) {
	auxv, err := os.ReadFile("/proc/self/auxv")
	if err != nil {
		return 0, err
	}
	for ; len(auxv) >= 16; auxv = auxv[16:] {
		if binary.LittleEndian.Uint64(auxv) != atSysinfoEhdr {
			continue
		}
		base := binary.LittleEndian.Uint64(auxv[8:])
		image := make([]byte, 2*os.Getpagesize()) // as long as it is at most; a shorter read does
		n, _ := memory.ReadAt(image, int64(base))
		file, err := elf.NewFile(bytes.NewReader(image[:n]))
		if err != nil {
			return 0, err
		}
		symbols, err := file.DynamicSymbols()
		if err != nil {
			return 0, err
		}
		for _, s := range symbols {
			if s.Name == "__vdso_clock_gettime" {
				return base + s.Value, nil
			}
		}
	}
	return 0, errors.New("the kernel maps none into this process")
}

// keptAt is where in the variables of the program a value stands. It must stand there
// once.
func keptAt(memory *os.File, value uint64) (at int64, err error) {
	maps, err := os.Open("/proc/self/maps")
	if err != nil {
		return 0, err
	}
	defer maps.Close()
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return 0, err
	}
	found, end := 0, int64(-1)
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		var from, to int64
		f := strings.Fields(lines.Text())
		if _, err := fmt.Sscanf(f[0], "%x-%x", &from, &to); err != nil {
			break // what is the kernel's own lies beyond the numbers
		}
		// The variables that begin as 0 follow those of the file, without a name.
		if !(len(f) > 5 && f[5] == program || len(f) == 5 && from == end) {
			continue
		}
		if end = to; !strings.HasPrefix(f[1], "rw") {
			continue
		}
		variables := make([]byte, to-from)
		if _, err := memory.ReadAt(variables, from); err != nil {
			return 0, err
		}
		for i := 0; i < len(variables); i += 8 {
			if binary.LittleEndian.Uint64(variables[i:]) == value {
				at, found = from+int64(i), found+1
			}
		}
	}
	if found != 1 {
		return 0, fmt.Errorf("it stands in %d places", found)
	}
	return at, nil
}
