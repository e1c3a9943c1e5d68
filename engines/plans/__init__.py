"""What GPU backends run, built ahead of time: profiles of sizes, builders in processes of their own, half precision."""
