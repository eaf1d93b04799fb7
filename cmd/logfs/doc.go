// Command logfs shows the output of services as files.
//
// main.go finds the command, which is in the file of its name; admin.go has
// those that only ask a running daemon. flags.go has the flags that several
// share, help.go what is said about them, serve.go what daemon and up have in
// common, and reload.go what HUP does to daemon. Nothing but main exits, and
// every error is one line.
package main
