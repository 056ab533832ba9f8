"""When work went on after a fault, by the scheduler's own log."""
import datetime
import json


def events(process):
    """[(unix time, message, fields)] of a role's log in JSON; other lines are left out."""
    found = []
    for line in process.log.read_text(errors="replace").splitlines():
        try:
            fields = json.loads(line)
            moment = datetime.datetime.fromisoformat(fields["timestamp"].replace("Z", "+00:00")).timestamp()
        except (ValueError, KeyError, TypeError):
            continue
        found.append((moment, fields.get("message", ""), fields))
    return found


def progress(scheduler, since, committed_too=True):
    """The moment of the first epoch whose run ended well, or that was committed, after `since`; None if there is none yet.

    `committed_too` is not given where a commit says nothing: it needs no executor.
    """
    wanted = {"epoch ran", "epochs committed"} if committed_too else {"epoch ran"}
    return next((moment for moment, message, _ in events(scheduler) if moment > since and message in wanted), None)
