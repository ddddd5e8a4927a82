package fleetlock

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// zincati is the application id for which Zincati has the machine id hashed:
// de35106b-6ec2-4688-b63a-fddaa156679b.
var zincati = []byte{0xde, 0x35, 0x10, 0x6b, 0x6e, 0xc2, 0x46, 0x88, 0xb6, 0x3a, 0xfd, 0xda, 0xa1, 0x56, 0x67, 0x9b}

// ZincatiID is the id under which Zincati, the update agent of Fedora CoreOS, asks for
// the machine with this machine id: 32 lower-case hexadecimal digits. The machine id is
// the content of /etc/machine-id, 32 hexadecimal digits; anything else is an error.
func ZincatiID(machineID string) (string, error) {
	key, err := hex.DecodeString(machineID)
	if err != nil || len(key) != 16 {
		return "", fmt.Errorf("invalid machine id %q: Zincati's id is made of 32 hexadecimal digits, as in /etc/machine-id", machineID)
	}
	mac := hmac.New(sha256.New, key)
	mac.Write(zincati)
	id := mac.Sum(nil)[:16]
	id[6] = id[6]&0x0f | 0x40 // a UUID of version 4
	id[8] = id[8]&0x3f | 0x80 // of the DCE variant
	return hex.EncodeToString(id), nil
}
