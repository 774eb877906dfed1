"""The page of a backtest."""

from agent.backtest.page.write import PAGE, write_page

__all__ = ["PAGE", "write_page"]
