"""Memristive crossbars: weights as conductances, products by Ohm's and Kirchhoff's laws."""
