import mmap

from proxy import vitals


def test_work_costs_processor_time() -> None:
    before = vitals.processor_time()
    while vitals.processor_time() == before:
        pass
    assert vitals.processor_time() > before


def test_what_is_held_is_resident() -> None:
    size = 32 << 20
    before = vitals.resident_memory()
    # Bytes could be put where the process has memory to spare.
    with mmap.mmap(-1, size) as held:
        held.write(b"x" * size)
        assert vitals.resident_memory() - before > size // 2
