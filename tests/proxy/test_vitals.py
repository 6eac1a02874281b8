from proxy import vitals


def test_work_costs_processor_time() -> None:
    before = vitals.processor_time()
    while vitals.processor_time() == before:
        pass
    assert vitals.processor_time() > before


def test_what_is_held_is_resident() -> None:
    before = vitals.resident_memory()
    held = b"x" * (32 << 20)
    assert vitals.resident_memory() - before > len(held) // 2
