package main

import (
	"context"
	"fmt"
	"os"

	"logfs/capture"
	"logfs/cmd/logfs/internal/control"
	"logfs/cmd/logfs/internal/daemon"
	"logfs/cmd/logfs/internal/exit"
	"logfs/ring/record"
)

// holdFifo keeps a FIFO open and brings a run for each time that somebody writes,
// until ctx is done.
func holdFifo(ctx context.Context, spec daemon.Holding) error {
	fifo, err := capture.NewFifo(os.NewFile(daemon.HoldFifo, spec.Service.Fifo))
	if err == nil {
		lock := os.NewFile(daemon.HoldLock, "lock") // open to the end
		err = daemon.Introduce(lock, spec.Service.Fifo)
		defer lock.Close()
	}
	if err != nil {
		fmt.Print(err)
		return exit.With(exit.Refused, err)
	}
	os.Stdout.Close()
	for {
		stream, err := fifo.Next(ctx)
		if err != nil {
			return exit.With(exit.Refused, err)
		}
		if stream == nil {
			return nil
		}
		if err := bringFifo(ctx, spec, stream); err != nil {
			return err
		}
	}
}

// bringFifo has the daemon capture the FIFO until its last writer has gone, or
// ctx is done. What was written before is captured; the next daemon goes on with
// what this one leaves.
func bringFifo(ctx context.Context, spec daemon.Holding, stream *os.File) error {
	a := control.Attach{Name: spec.Service.Name, Kind: control.Pipe, Streams: []*os.File{stream}, Service: true}
	if err := withHold(&a); err != nil {
		return err
	}
	r := control.HoldLater(a, control.Next{
		Dial:  func() (*control.Client, error) { return control.Dial(spec.Socket) },
		Say:   func(string) {},
		Waits: waits(a),
		Stays: true,
	})
	defer r.Detach()
	if err := r.Start(0); err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = r.Exit(record.Exit{}) })()
	return r.Wait()
}
