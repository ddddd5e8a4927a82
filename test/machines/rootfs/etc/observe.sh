# Tells the test harness what this machine does: observe.sh up|down HOST BOOT.
# systemd's count of soft reboots tells them apart, which all have the same boot id;
# systemd before 256 has none.
soft=$(systemctl show --property=SoftRebootsCount --value)
[ "${soft:-0}" = 0 ] || soft=+$soft
echo "$1 $2 $3${soft#0}" >/observe/events
