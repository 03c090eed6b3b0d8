# What a call does before its first job and after its last one.


onstart:
    with last_errors():
        check_secret()
        run_lock.take()
        code_records.keep()
        Call.of(workflow).write(Path(R))
        prepare_cluster()
        record_progress()
        warn_of_old_config()
    forget_recorded(Path(R, "state"), is_recorded)
    stop_jobs_on_signals(STOP_FILE)


onsuccess:
    forget_recorded(Path(R, "state"), is_recorded)
    keep_done(Path(R))
    print_end()


onerror:
    mark_outdated()
    forget_recorded(Path(R, "state"), is_recorded)
