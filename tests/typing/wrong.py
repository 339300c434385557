"""Programs with a mistake in each marked line, which `mypy --strict` must find."""

from __future__ import annotations

from collections.abc import Sequence

import penstock as ps


class NoSource:
    """It cannot be read."""

    def open(self) -> None: ...

    def close(self) -> None: ...


class NoStore:
    """It has no sync."""

    def open(self) -> None: ...

    def write(self, batch: Sequence[ps.Record]) -> None: ...

    def close(self) -> None: ...


class NoDecoder:
    """It decodes nothing."""

    def reset(self) -> None: ...


camera = ps.source([1])
end = ps.store("null")

ps.source(3)  # wrong: neither a component nor an iterable
ps.source(NoSource())  # wrong: it has no read
ps.source(NoSource)  # wrong: a class
ps.source([1], chanel="a")  # wrong: a misspelled setting
ps.source([1], workers="2")  # wrong: text for a number
ps.source("files", directory="d", workers="2")  # wrong: text for a number
ps.source("zenoh", key="k", on_error="ignore")  # wrong: no such word
ps.source("zenoh", key="k", place="thraed")  # wrong: a misspelled word
ps.source("zenoh", key="k", retry=3)  # wrong: a number for a Retry
ps.source([1], name=7)  # wrong: a number for a name
ps.source([1], ordered=None)  # wrong: nothing for a flag
ps.decoder(NoDecoder())  # wrong: it has no decode
ps.decoder(NoDecoder)  # wrong: its objects have no decode
ps.decoder(lambda: 3)  # wrong: it makes no decoder
ps.processor(3)  # wrong: cannot be called
ps.processor(NoStore())  # wrong: cannot be called
ps.processor(print, expect_every_s="1")  # wrong: text for a number
ps.processor(print, wrokers=2)  # wrong: a misspelled option
ps.store(NoStore())  # wrong: it has no sync
ps.store(NoStore)  # wrong: a class
ps.store([1])  # wrong: a list
ps.store(print)  # wrong: a function
ps.edge(capacity="3")  # wrong: text for a number
ps.edge(when_ful="block")  # wrong: a misspelled option
ps.edge(when_full=3)  # wrong: no policy
ps.edge(when_full=ps.Sample)  # wrong: a class
ps.Sample("3")  # wrong: text for a number
ps.Spill(7)  # wrong: no path
ps.Spill()  # wrong: no directory
ps.Spill("d", max_byte=3)  # wrong: a misspelled option
ps.Retry(times="3")  # wrong: text for a number
ps.Retry(on=(3,))  # wrong: no error
ps.Retry(on=(int,))  # wrong: no error
ps.Retry(time=3)  # wrong: a misspelled option
camera >> 3  # wrong: no node
camera >> "null"  # wrong: text
camera >> [1, 2]  # wrong: an iterable stands first
3 >> end  # wrong: no source
camera >> end >> None  # wrong: no node
NoDecoder >> NoSource  # wrong: no node among them
ps.Pipeline(camera >> end, nam="x")  # wrong: a misspelled option
ps.Pipeline(3)  # wrong: no flow
ps.Pipeline(camera >> end, checkpoint_every_s="1")  # wrong: text for a number
ps.Pipeline(camera >> end).run(progres=True)  # wrong: a misspelled option
ps.Pipeline(camera >> end).start().pause(3)  # wrong: no name
