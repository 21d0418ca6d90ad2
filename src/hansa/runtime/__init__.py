"""Where a job runs: the server's side, the sites' side, and the simulator that joins them in one process.

- `simulator`      `simulate()`: a whole federation in this process
- `server_side`    workflows, hand-outs and submissions, with their filters and events
- `site_side`      one site: a task in, a result out
- `engines`        what components reach through `fl_ctx.get_engine()`
- `event_loop`     the dispatcher's clock and the place where controllers wait
- `events`         firing events to components
- `history`, `run`, `run_folder`   what a run leaves behind
- `seeding`, `user_code`           reproducible and fenced calls into other people's code

It knows no algorithm and imports no component: a job names those by path.
"""
