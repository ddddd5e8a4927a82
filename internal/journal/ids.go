package journal

// messageIDs are the MESSAGE_IDs of the agent's events. They are made at random,
// once, and never change: people and programs select by them. An event that is
// gone keeps its line.
var messageIDs = map[string]string{
	"started":       "c1ce56645c9c4bbe9dca8437742cabaf",
	"stopped":       "8e475fa5776c412ea276b280716dacda",
	"reboot-needed": "ec547d38a7aa46ae9623c9715f99f0c7",
	"not-needed":    "7a317f9559d84b7aba541600c44b700f",
	"trigger-error": "890b8c87776045f68dbb0f1212283f34",
	"waiting":       "6e7d5802181748d290be58c4e221bddc",
	"blocked":       "5c2177320e2b4b23a773118a052a9068",
	"paused":        "f9841b7a28e9497c89d4edabda9746c9",
	"resumed":       "8bb7aa0331154e289a6ed8f279e06e46",
	"phase":         "1cfb473b1368450d98b0c3d4cee89fa7",
	"slot-granted":  "ee5a2a8b1040489ea6b385ad8d1a5f88",
	"users-told":    "278dd4aef5ce4046a1665bfd28f95408",
	"rebooting":     "fae31c0b6e9a44268bc8e477b234c840",
	"returned":      "61546c4860b34db883ef3fdc3f2f619d",
	"failed":        "528d2db65f3543c592022729ee338955",
	"aborted":       "3d8b948838b642ba869f67c7840a9d29",
	"released":      "cae1b33341034680ba46cb01e8d7fc7f",
	"breaker":       "8e76b6504ee24c42859f6b7a100f3cb2",
	"dry-run":       "7e62e55f132d467db970b6e3f2711697",
}
